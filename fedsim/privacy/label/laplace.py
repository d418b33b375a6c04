"""Laplace noise on sums over bags.

With b = Delta_1 / epsilon, Delta_1 being the L1 sensitivity, densities of a release under
neighbouring labels differ by a factor of e^epsilon at most: pure epsilon-label-DP.

Source: Dwork et al., TCC 2006. Javanmard et al., ICLR 2024, add it to means of targets that are
truncated to [-tau, tau], with b = tau / (k epsilon), which hides that a target is counted as zero
(`zero_out`); that a target is another one (`replace_one`) takes twice that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fedsim.privacy.label.base import LabelPrivacy
from fedsim.privacy.label.sensitivity import Sensitivity

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent


class Laplace(LabelPrivacy):
    """Laplace noise on class counts or sums of targets.

    >>> privacy, rng = Laplace(epsilon=2.0), np.random.default_rng(0)
    >>> privacy.release(np.array([[5, 11]]), np.array([16]), rng).round(3)
    array([[0.302, 0.698]])
    """

    kind: Literal["laplace"] = "laplace"

    reference: ClassVar[str] = """@inproceedings{dwork2006calibrating,
  title = {Calibrating Noise to Sensitivity in Private Data Analysis},
  author = {Dwork, Cynthia and McSherry, Frank and Nissim, Kobbi and Smith, Adam},
  booktitle = {Theory of Cryptography Conference (TCC)},
  year = {2006},
}"""

    def scale(self, sensitivity: Sensitivity) -> float:
        """Return b."""
        return sensitivity.l1 / self.epsilon

    def noise(
        self, scale: float, shape: tuple[int, ...], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return draws from the density exp(-|z| / b) / 2b."""
        return rng.laplace(scale=scale, size=shape)

    def variance(self, scale: float) -> float:
        """Return 2 b^2."""
        return 2 * scale**2

    def dp_event(self, scale: float, sensitivity: Sensitivity) -> DpEvent:
        """Return the Laplace mechanism."""
        from dp_accounting.dp_event import LaplaceDpEvent

        return LaplaceDpEvent(scale / sensitivity.l1)
