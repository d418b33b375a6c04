"""DP-FTRL: client-level privacy with noise that rounds have in common, for sites that take turns.

Updates are clipped and added as at the client level, but the noise of a round is correlated with
that of others (`fedsim.privacy.matrix_factorisation`). The model is the sum of all rounds, and has
less noise so, at the same price and without any sampling. What it takes are sites that never take
part twice within a known number of rounds. A site then spends Gaussian(sigma) in each of its
rounds, as if the noise of rounds were independent; who answers changes neither noise nor divisor.

Momentum and learning rate of the server are post-processing of the noisy means.

Source: Kairouz et al., ICML 2021; Denisov et al., NeurIPS 2022; Choquette-Choo et al., NeurIPS
2023. Difference: no amplification by sampling within a cycle is offered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from fedsim.privacy.client_level import Aggregate
from fedsim.privacy.matrix_factorisation import Banded, Tree
from fedsim.privacy.mechanism import AggregateMechanism, NoiseMultiplier, Setting
from fedsim.privacy.trust import AGGREGATE, Purpose

if TYPE_CHECKING:
    from fedsim.privacy.correlated_mean import CorrelatedMean
    from fedsim.seeds import Streams


class DpFtrl(AggregateMechanism):
    """Clipped client updates, and at a trusted server noise that rounds have in common."""

    kind: Literal["dp_ftrl"] = "dp_ftrl"
    clip_norm: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="C, the largest norm of a client update over the whole model",
    )
    noise_multiplier: NoiseMultiplier = Field(
        description="sigma, the standard deviation of the noise over the sensitivity; auto: what "
        "spends budget.epsilon in the whole run; 0: clipping alone, which protects nobody"
    )
    factorisation: Banded | Tree = Field(
        default=Banded(), discriminator="kind", description="what rounds have in common"
    )

    purpose: ClassVar[Purpose] = AGGREGATE
    reference: ClassVar[str] = """@inproceedings{choquette2023amplified,
  title = {(Amplified) Banded Matrix Factorization: A Unified Approach to Private Training},
  author = {Choquette-Choo, Christopher A. and Ganesh, Arun and McKenna, Ryan and
            McMahan, H. Brendan and Rush, Keith and Thakurta, Abhradeep Guha and Xu, Zheng},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
}"""

    def release(self, noise_multiplier: float, setting: Setting) -> Aggregate:
        """Return what the server releases in one round, as far as it costs a site of that round."""
        return Aggregate(noise_multiplier)

    def read(self, fields: dict[str, Any]) -> Aggregate:
        """Return the release whose fields travelled to a site."""
        return Aggregate(**fields)

    def mean(
        self, noise_multiplier: float, num_expected: float, streams: Streams, separation: int = 1
    ) -> CorrelatedMean:
        """Return what makes the means of a run."""
        from fedsim.privacy.correlated_mean import CorrelatedMean

        return CorrelatedMean(
            self.clip_norm, noise_multiplier, num_expected, streams, self.factorisation, separation
        )
