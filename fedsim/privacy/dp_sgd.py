"""DP-SGD in the client, for units of one image or of several.

In every step each of a site's U units is in the batch with probability q, independently of the
others (Poisson sampling). The gradient of each unit of the batch is clipped to the norm C, Gaussian
noise of standard deviation sigma C is added to the sum, and the result is divided by q U, the
number of units that is expected. What follows (optimiser, aggregation, server) is post-processing.

Noise is added at the site, so the server sees which sites take part: no privacy is gained from a
cohort that is a part of the population, and a round costs a site nothing that it is not part of.

The numbers of images and of units are used (q, the denominator, the weights of the aggregation) and
so are public: neighbours differ in that blanks stand in place of a unit's images, which add nothing
to the sum (replace-special, zero-out). The sensitivity of the sum is C.

Source: Abadi et al., CCS 2016, algorithm 1. The difference: none but the blank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from fedsim.privacy.mechanism import Mechanism, NoiseMultiplier, Release, Setting
from fedsim.privacy.units import Relation

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent


class DpSgdMechanism(Mechanism):
    """Clipped gradients of single units, noise in every step."""

    clip_norm: float = Field(
        default=1.0,
        ge=1e-6,
        le=1e6,
        description="C, the largest norm of one unit's gradient; far below, squares of single "
        "precision are zero",
    )
    noise_multiplier: NoiseMultiplier = Field(
        description="sigma, the noise's standard deviation over C; auto: the least "
        "with which each site, and who is at several of them, keeps to budget.epsilon in the whole "
        "run; 0: clipping alone, which protects nobody"
    )
    clipping: Literal["flat", "per_layer"] = Field(
        default="flat", description="the whole gradient, or every layer's with C / sqrt(layers)"
    )
    num_augmentations: int = Field(
        default=1,
        gt=0,
        le=64,
        description="changed copies of an image whose gradients are averaged before clipping",
    )
    max_physical_batch: int = Field(
        default=256,
        gt=0,
        description="images whose gradients are held at a time: less memory, the same results up "
        "to rounding",
    )

    average_decay: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="of a moving average of the global model over rounds, which is judged and "
        "exported in its place at no cost; default: the global model itself",
    )

    relation: ClassVar[Relation] = "replace_special"
    clips: ClassVar[Literal["gradients", "updates"]] = "gradients"
    reference: ClassVar[str] = """@inproceedings{abadi2016deep,
  title = {Deep Learning with Differential Privacy},
  author = {Abadi, Martin and Chu, Andy and Goodfellow, Ian and McMahan, H. Brendan and
            Mironov, Ilya and Talwar, Kunal and Zhang, Li},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security (CCS)},
  year = {2016},
}"""

    def release(self, noise_multiplier: float, setting: Setting) -> Steps:
        """Return the private steps of one site in one round."""
        num, plan = setting.num_examples or setting.num_units, setting.plan
        rate = sampling_rate(plan.batch_size, num)
        return Steps(noise_multiplier, rate, plan.num_steps(num), setting.num_models)

    def read(self, fields: dict[str, Any]) -> Steps:
        """Return the private steps whose fields travelled to a site."""
        return Steps(**fields)


def sampling_rate(batch_size: int, num_examples: int) -> float:
    """Return q, with which a unit is in a step's batch.

    The batch size is the number of images that is expected, however many each unit has.
    """
    return min(1.0, batch_size / num_examples)


@dataclass(frozen=True)
class Steps(Release):
    """The private steps of one site in one round: all that their event depends on.

    Args:
        noise_multiplier: sigma.
        sampling_rate: q.
        num_steps: one whose batch is empty is a release like any other.
        num_models: that take so many steps, each with samples and noise of its own.
    """

    sampling_rate: float
    num_steps: int
    num_models: int = 1

    def event(self) -> DpEvent:
        """Return what dp_accounting calls this; the sensitivity is C, so sigma is its noise."""
        from dp_accounting import dp_event

        if self.noise_multiplier == 0:
            return dp_event.NonPrivateDpEvent()
        gaussian = dp_event.GaussianDpEvent(self.noise_multiplier)
        step = dp_event.PoissonSampledDpEvent(self.sampling_rate, gaussian)
        return dp_event.SelfComposedDpEvent(step, self.num_steps * self.num_models)
