"""Local privacy: every site adds noise to its own clipped update before it leaves.

The update of a site is shortened to the norm C over all parameters, and gets Gaussian noise of
standard deviation sigma C. Neighbours differ in the whole data of one site (replace-one): any two
updates are 2 C apart at most, so the noise is sigma / 2 in units of the sensitivity, once for every
round that the site takes part in. What follows is post-processing, the server sees who takes part,
and nothing is gained from a cohort that is a part of the population.

Source: Duchi, Jordan and Wainwright, FOCS 2013, for the model. The noise is calibrated by privacy
loss distributions, which for Gaussian noise are exact up to rounding, at any epsilon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from fedsim.privacy.mechanism import Mechanism, NoiseMultiplier, Setting
from fedsim.privacy.site_noise import SiteNoise
from fedsim.privacy.units import Relation, Unit

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent


class Local(Mechanism):
    """Noise in the client, on its clipped update: no server has to be trusted."""

    kind: Literal["local"] = "local"
    clip_norm: float = Field(
        default=1.0, gt=0, le=1e6, description="C, the largest norm of an update, over the model"
    )
    noise_multiplier: NoiseMultiplier = Field(
        description="sigma, the noise's standard deviation over C, half of that over the "
        "sensitivity; auto: what spends budget.epsilon in the whole run, site by site"
    )

    unit: ClassVar[Unit] = "site"
    relation: ClassVar[Relation] = "replace_one"
    clips: ClassVar[Literal["gradients", "updates"]] = "updates"
    reference: ClassVar[str] = """@inproceedings{duchi2013local,
  title = {Local Privacy and Statistical Minimax Rates},
  author = {Duchi, John C. and Jordan, Michael I. and Wainwright, Martin J.},
  booktitle = {IEEE Symposium on Foundations of Computer Science (FOCS)},
  year = {2013},
}"""

    def release(self, noise_multiplier: float, setting: Setting) -> LocalUpdate:
        """Return what a site releases in one round."""
        return LocalUpdate(noise_multiplier, self.clip_norm)

    def read(self, fields: dict[str, Any]) -> LocalUpdate:
        """Return the release whose fields travelled to a site."""
        return LocalUpdate(**fields)


@dataclass(frozen=True)
class LocalUpdate(SiteNoise):
    """The noisy update of one site in one round."""

    def event(self) -> DpEvent:
        """Return what dp_accounting calls this; the sensitivity is 2 C, so sigma / 2 its noise."""
        from dp_accounting import dp_event

        if self.noise_multiplier == 0:
            return dp_event.NonPrivateDpEvent()
        return dp_event.GaussianDpEvent(self.noise_multiplier / 2)
