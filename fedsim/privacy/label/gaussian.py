"""Gaussian noise on sums over bags, as little as its promise takes.

With u = sigma / Delta_2, Delta_2 being the L2 sensitivity, a release is (epsilon, delta)-label-DP
if and only if

    Phi(1 / 2u - epsilon u) - e^epsilon Phi(-1 / 2u - epsilon u) <= delta.

The left side falls in u and in epsilon, so each is found from the other as a root. R releases of
the same labels are exactly one with u / sqrt(R).

Source: Balle and Wang, ICML 2018, theorem 8. The classical sigma = Delta_2 sqrt(2 log(1.25 /
delta)) / epsilon holds for epsilon up to 1 alone, and is larger there.
"""

from __future__ import annotations

from math import exp, log, sqrt
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.privacy.label.base import LabelPrivacy
from fedsim.privacy.label.sensitivity import Sensitivity
from fedsim.privacy.units import SMALLEST_DELTA

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

ROUNDING = 1e-12
"""What a root may be off, relatively; calibrated noise is larger by as much."""


class Gaussian(LabelPrivacy):
    """Gaussian noise on class counts or sums of targets."""

    kind: Literal["gaussian"] = "gaussian"
    delta: float = Field(
        ge=SMALLEST_DELTA,
        lt=1,
        description="added to e^epsilon times the probability of the other case; below 1 / the "
        "labels of the largest site, at least 1e-9, below which accountants err",
    )

    reference: ClassVar[str] = """@inproceedings{balle2018improving,
  title = {Improving the {Gaussian} Mechanism for Differential Privacy: Analytical Calibration
           and Optimal Denoising},
  author = {Balle, Borja and Wang, Yu-Xiang},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2018},
}"""

    def scale(self, sensitivity: Sensitivity) -> float:
        """Return sigma."""
        return sensitivity.l2 * noise_multiplier(self.epsilon, self.delta)

    def noise(
        self, scale: float, shape: tuple[int, ...], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return normal draws."""
        return rng.normal(scale=scale, size=shape)

    def variance(self, scale: float) -> float:
        """Return sigma^2."""
        return scale**2

    def dp_event(self, scale: float, sensitivity: Sensitivity) -> DpEvent:
        """Return the Gaussian mechanism."""
        from dp_accounting.dp_event import GaussianDpEvent

        return GaussianDpEvent(scale / sensitivity.l2)


def delta_of(epsilon: float, u: float) -> float:
    """Return the least delta at which noise of u = sigma / Delta_2 is (epsilon, delta)-DP.

    e^epsilon Phi(-b) is exp(-a^2 / 2) erfcx(b / sqrt 2) / 2 for a, b = 1 / 2u -+ epsilon u, which
    does not overflow.
    """
    from scipy.special import erfcx, ndtr

    a, b = 0.5 / u - epsilon * u, 0.5 / u + epsilon * u
    return float(ndtr(a) - exp(-a * a / 2) * erfcx(b / sqrt(2)) / 2)


def noise_multiplier(epsilon: float, delta: float) -> float:
    """Return the least u = sigma / Delta_2 that is (epsilon, delta)-DP, rounded up.

    >>> round(noise_multiplier(1.0, 1e-5), 4)
    3.7306
    """
    from scipy.optimize import brentq

    root = brentq(lambda t: delta_of(epsilon, exp(t)) - delta, log(1e-5), log(1e10), xtol=ROUNDING)
    return exp(root + 2 * ROUNDING)
