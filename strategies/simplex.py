"""The small convex problem inside MGDA and CAGrad: a shortest sum of updates, and variations.

`shortest` minimises

    b . w + ||G^T w||,    ||G^T w||^2 = w^T K w,    over sum_i w_i = 1, lower <= w <= upper,

by moving weight between two sites at a time: from the one where the function falls most if weight
is taken away to the one where it falls most if weight is added (the maximal violating pair of SMO),
as far as is best, which has a closed form. With b = 0 it is the point of least norm in the convex
hull of the updates. K may be singular; G^T w is the same for all minimisers.

Design note: SciPy has no solver for this with both kinds of constraints that is exact to rounding
(SLSQP stops near 1e-8, and its answer then depends on the order of the sites). The pairwise steps
converge linearly, and one costs a product with K: in all 1 ms for 5 sites, 10 to 30 ms for 50. If
there are more sites than coordinates it can take the most steps allowed, about 0.1 s.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Array = NDArray[np.float64]

MAX_STEPS = 5000
TOLERANCE = 1e-14
"""Of slopes, relative to the longest update: where to stop."""

FULL = 1e-15
"""Room below a bound that is none."""


def shortest(K: Tensor, b: Tensor, start: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the minimiser w of the module docstring, (site,), float64.

    Args:
        K: inner products of the updates, (site, site), float64.
        b: linear term, (site,), float64, in units of length.
        start: a feasible w, (site,), float64.
        lower: bounds on w, (site,), float64, at most `start`.
        upper: bounds on w, (site,), float64, at least `start`.

    >>> import torch
    >>> K = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> none, all = torch.zeros(2).double(), torch.ones(2).double()
    >>> shortest(K, b=none, start=all / 2, lower=none, upper=all)
    tensor([0.2000, 0.8000], dtype=torch.float64)
    """
    import torch

    longest = float(K.diagonal().amax())
    if longest <= 0:
        return start
    found = _shortest(
        (K / longest).numpy(),
        (b / longest**0.5).numpy(),
        start.numpy().copy(),
        lower.numpy() + FULL,
        upper.numpy() - FULL,
    )
    return torch.from_numpy(found.clip(lower.numpy(), upper.numpy()))


def _shortest(K: Array, b: Array, w: Array, lower: Array, upper: Array) -> Array:
    """Move weight between pairs of sites until no pair gains; w is changed in place."""
    import numpy as np

    for _ in range(MAX_STEPS):
        Kw = K @ w
        norm = sqrt(max(float(w @ Kw), 0.0))
        slope = Kw + norm * b  # the gradient, times the norm
        i = int(np.where(w < upper, slope, np.inf).argmin())
        j = int(np.where(w > lower, slope, -np.inf).argmax())
        if not slope[j] - slope[i] > TOLERANCE:
            break
        room = min(upper[i] + FULL - w[i], w[j] - lower[j] + FULL)
        square = K[i, i] + K[j, j] - 2 * K[i, j]
        t = min(_best(norm, Kw[i] - Kw[j], square, b[i] - b[j]), room)
        if not t > 0:
            break
        w[i] += t
        w[j] -= t
    return w


def _best(norm: float, inner: float, square: float, rise: float) -> float:
    """Return the t at which rise * t + ||v + t h|| is least.

    Args:
        norm: ||v||.
        inner: <v, h>.
        square: ||h||^2.
        rise: slope of the linear part.
    """
    length = sqrt(max(square, 0.0))
    if length == 0 or rise <= -length:
        return float("inf")
    if rise >= length:
        return 0.0
    kappa = -rise / length
    distance = sqrt(max(norm**2 - inner**2 / square, 0.0))  # of the line v + t h from the origin
    return (kappa * distance / sqrt(1 - kappa**2) - inner / length) / length
