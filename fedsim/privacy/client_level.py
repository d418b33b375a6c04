"""Client-level privacy: noise at the server, once per round, on the sum of clipped updates.

The update of a site is shortened to the norm C over all parameters, the server adds up the updates
of a round and Gaussian noise of standard deviation sigma C, and divides by D, the number of sites
that are expected in a round. Neighbours differ in that one site adds nothing (replace-special); the
number of sites is public. The sensitivity of the sum is C. A site that does not answer counts as
zero, with noise and D as they are.

What a round costs depends on its cohort:

    all sites       Gaussian(sigma), every site in every round; D = N
    poisson         Gaussian(sigma), sampled with q, every site in every round; D = q N. Nobody but
                    the server may know who takes part. A round without any site is one like others
    fixed_size m    Gaussian(sigma), a site in the rounds that it is drawn for, as if everybody knew
                    the cohorts; D = m. They are not Poisson samples, so their number never counts
                    as one
    cyclic          Gaussian(sigma), a site once in every cycle; D = N / rounds of a cycle

Source: McMahan et al., ICLR 2018, algorithm 1 with a flat clip, and Andrew et al., NeurIPS 2021,
for a clip that adapts. Differences: sites count alike (the paper allows public weights); cohorts of
a fixed size are accounted as above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from fedsim.privacy.adaptive_clip import AdaptiveClip
from fedsim.privacy.mechanism import AggregateMechanism, NoiseMultiplier, Release, Setting
from fedsim.privacy.trust import AGGREGATE, Purpose

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

    from fedsim.privacy.private_mean import NoisyMean
    from fedsim.seeds import Streams


class ClientLevel(AggregateMechanism):
    """Clipped client updates, and noise at a trusted server on their sum."""

    kind: Literal["client_level"] = "client_level"
    clip_norm: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="C, the largest norm of a client update over the whole model; the first one, "
        "if it adapts",
    )
    noise_multiplier: NoiseMultiplier = Field(
        description="sigma, the standard deviation of the noise on the sum over C; auto: what "
        "spends budget.epsilon in the whole run; 0: clipping alone, which protects nobody"
    )
    adaptive_clip: AdaptiveClip | None = Field(
        default=None, description="let C follow a quantile of the norms; default: C stays"
    )

    purpose: ClassVar[Purpose] = AGGREGATE
    reference: ClassVar[str] = """@inproceedings{mcmahan2018learning,
  title = {Learning Differentially Private Recurrent Language Models},
  author = {McMahan, H. Brendan and Ramage, Daniel and Talwar, Kunal and Zhang, Li},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2018},
}"""

    def release(self, noise_multiplier: float, setting: Setting) -> Aggregate:
        """Return what the server releases in one round."""
        return Aggregate(noise_multiplier, setting.sampling_rate)

    def read(self, fields: dict[str, Any]) -> Aggregate:
        """Return the release whose fields travelled to a site."""
        return Aggregate(**fields)

    def mean(
        self, noise_multiplier: float, num_expected: float, streams: Streams, separation: int = 1
    ) -> NoisyMean:
        """Return what makes the means of a run."""
        from fedsim.privacy.private_mean import NoisyMean

        return NoisyMean(
            self.clip_norm, noise_multiplier, num_expected, streams, self.adaptive_clip
        )

    def too_few(self, noise_multiplier: float, num_expected: float) -> tuple[str, str] | None:
        """Return why a clip that adapts needs more sites in a round."""
        if self.adaptive_clip is not None:
            try:
                self.adaptive_clip.update_noise(noise_multiplier, num_expected)
            except ValueError as error:
                return "adaptive_clip", f"{error}: use a fixed clip_norm, or more sites"
        return None


@dataclass(frozen=True)
class Aggregate(Release):
    """The noisy sum of the clipped updates of one round.

    Args:
        sampling_rate: q, with which each site is in it, unseen; 1 if it is known who is.
    """

    sampling_rate: float = 1.0

    def event(self) -> DpEvent:
        """Return what dp_accounting calls this; the sensitivity is C, so sigma is its noise."""
        from dp_accounting import dp_event

        if self.noise_multiplier == 0:
            return dp_event.NonPrivateDpEvent()
        gaussian = dp_event.GaussianDpEvent(self.noise_multiplier)
        if self.sampling_rate == 1:
            return gaussian
        return dp_event.PoissonSampledDpEvent(self.sampling_rate, gaussian)
