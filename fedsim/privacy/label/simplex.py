"""Noisy proportions made proportions again.

Source: Duchi, Shalev-Shwartz, Singer and Chandra, Efficient Projections onto the l1-Ball for
Learning in High Dimensions, ICML 2008, figure 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def project(responses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest points, in Euclidean distance, whose entries are >= 0 and sum to 1.

    It uses nothing but what was released, so it costs no privacy. It is biased where noise leaves
    the simplex: small proportions grow.

    Args:
        responses: noisy proportions, (bag, class).

    >>> project(np.array([[0.75, 0.5, -0.25], [0.25, 0.75, 0.0]]))
    array([[0.625, 0.375, 0.   ],
           [0.25 , 0.75 , 0.   ]])
    """
    num_classes = responses.shape[1]
    below = np.maximum(responses - responses.max(axis=1, keepdims=True), -1.0)
    descending = -np.sort(-below, axis=1)
    thresholds = (descending.cumsum(axis=1) - 1) / np.arange(1, num_classes + 1)
    num_kept = (descending > thresholds).sum(axis=1, keepdims=True)
    kept: NDArray[np.float64] = below - np.take_along_axis(thresholds, num_kept - 1, axis=1)
    return np.maximum(kept, 0.0)
