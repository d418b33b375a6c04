"""Distributed privacy: every site adds a share of the noise, and the server sees the sum alone.

The update of a site is shortened to the norm C and gets Gaussian noise of variance
(sigma C)^2 / n_min. If n_min honest sites or more are in the sum, its noise is sigma C or more, and
the sum is as private as if a trusted server had added that (client level, replace-special); a sum
of fewer is not released. The divisor is D, the number of sites that are expected in a round.

That the server sees the sum alone is assumed, not simulated: in a deployment it is the work of a
secure aggregation protocol such as Flower's SecAgg+. So are honest sites: one that shares what it
knows with the server has to be left out of n_min.

Source: Dwork et al., EUROCRYPT 2006, and Kairouz, Liu and Steinke, ICML 2021, for sums of noise
shares under secure aggregation. Differences, none of which is modelled: shares are real numbers in
floating point, and so is their sum. A deployment has to

- scale, rotate and round every update to integers; a rounded update of d numbers may be longer than
  C, by at most sqrt(d) / 2 steps of the grid for the nearest one, which adds to the sensitivity;
- draw noise of integers; a sum of discrete Gaussians is only close to a discrete Gaussian, and what
  that costs is theirs to add (their theorem 1);
- add modulo a number; a sum that leaves its range wraps around, which costs no privacy, being
  post-processing, but may ruin the model.

So the event, one Gaussian of real numbers, is what such a protocol comes near to with a fine grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from fedsim.privacy.mechanism import AggregateMechanism, NoiseMultiplier, Setting
from fedsim.privacy.site_noise import SiteNoise
from fedsim.privacy.trust import SECURE_SUM, Purpose

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

    from fedsim.privacy.private_mean import SecureSum
    from fedsim.seeds import Streams


class Distributed(AggregateMechanism):
    """A share of the noise at every site, on its clipped update, under an assumed secure sum."""

    kind: Literal["distributed"] = "distributed"
    clip_norm: float = Field(
        default=1.0, gt=0, le=1e6, description="C, the largest norm of an update, over the model"
    )
    noise_multiplier: NoiseMultiplier = Field(
        description="sigma, the standard deviation over C of the noise that a sum of min_survivors "
        "updates has; auto: what spends budget.epsilon in the whole run"
    )
    min_survivors: int = Field(
        ge=2, description="n_min, honest sites in a sum at least; a sum of fewer is not released"
    )

    purpose: ClassVar[Purpose] = SECURE_SUM
    reference: ClassVar[str] = """@inproceedings{kairouz2021distributed,
  title = {The Distributed Discrete {G}aussian Mechanism for Federated Learning with Secure
           Aggregation},
  author = {Kairouz, Peter and Liu, Ziyu and Steinke, Thomas},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2021},
}"""

    def release(self, noise_multiplier: float, setting: Setting) -> NoiseShare:
        """Return what a site adds to the sum of one round."""
        return NoiseShare(noise_multiplier, self.clip_norm, self.min_survivors)

    def read(self, fields: dict[str, Any]) -> NoiseShare:
        """Return the release whose fields travelled to a site."""
        return NoiseShare(**fields)

    def mean(
        self, noise_multiplier: float, num_expected: float, streams: Streams, separation: int = 1
    ) -> SecureSum:
        """Return what makes the means of a run."""
        from fedsim.privacy.private_mean import SecureSum

        return SecureSum(num_expected, self.min_survivors)

    def too_few(self, noise_multiplier: float, num_expected: float) -> tuple[str, str] | None:
        """Return why a sum needs more sites than a round has."""
        if num_expected >= self.min_survivors:
            return None
        return "min_survivors", (
            f"{self.min_survivors} sites have to answer, and a round has {num_expected:g}: no sum "
            "would be released"
        )


@dataclass(frozen=True)
class NoiseShare(SiteNoise):
    """An update with a share of the noise; `num_shares` make it up."""

    def event(self) -> DpEvent:
        """Return what dp_accounting calls the sum; the sensitivity is C, sigma its noise."""
        from dp_accounting import dp_event

        if self.noise_multiplier == 0:
            return dp_event.NonPrivateDpEvent()
        return dp_event.GaussianDpEvent(self.noise_multiplier)
