"""Two-sided geometric noise on class counts: the discrete Laplace mechanism.

P(z) = (1 - alpha) / (1 + alpha) alpha^|z| with alpha = e^(-epsilon / Delta_1): e^-epsilon for the
one count that two classes need, e^(-epsilon / 2) for more classes under `replace_one`. Pure
epsilon-label-DP on whole numbers, which have no last bits to give anything away.

Source: Ghosh, Roughgarden and Sundararajan, STOC 2009.
"""

from __future__ import annotations

from math import exp, expm1
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fedsim.privacy.label.base import LabelPrivacy
from fedsim.privacy.label.sensitivity import Sensitivity

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent


class Geometric(LabelPrivacy):
    """Whole numbers added to class counts, which stay whole.

    >>> privacy, rng = Geometric(epsilon=2.0), np.random.default_rng(0)
    >>> (16 * privacy.release(np.array([[5, 11]]), np.array([16]), rng)).round(9)
    array([[ 5., 11.]])
    """

    kind: Literal["geometric"] = "geometric"
    whole_numbers: ClassVar[bool] = True

    reference: ClassVar[str] = """@inproceedings{ghosh2009universally,
  title = {Universally Utility-Maximizing Privacy Mechanisms},
  author = {Ghosh, Arpita and Roughgarden, Tim and Sundararajan, Mukund},
  booktitle = {Symposium on Theory of Computing (STOC)},
  year = {2009},
}"""

    def scale(self, sensitivity: Sensitivity) -> float:
        """Return -1 / log(alpha)."""
        return sensitivity.l1 / self.epsilon

    def noise(
        self, scale: float, shape: tuple[int, ...], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return differences of two geometric numbers, whole."""
        stop = -expm1(-1 / scale)
        return (rng.geometric(stop, shape) - rng.geometric(stop, shape)).astype(np.float64)

    def variance(self, scale: float) -> float:
        """Return 2 alpha / (1 - alpha)^2."""
        return 2 * exp(-1 / scale) / expm1(-1 / scale) ** 2

    def dp_event(self, scale: float, sensitivity: Sensitivity) -> DpEvent:
        """Return the discrete Laplace mechanism."""
        from dp_accounting.dp_event import DiscreteLaplaceDpEvent

        return DiscreteLaplaceDpEvent(1 / scale, int(sensitivity.l1))
