"""A client update that its site clips and adds noise to before it is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.privacy.mechanism import Release

if TYPE_CHECKING:
    from torch import Tensor

    from fedsim.seeds import Streams

NOISE = "update_noise"
"""Name of the random stream."""


@dataclass(frozen=True)
class SiteNoise(Release):
    """What a site does to its update.

    Args:
        clip_norm: C, over the whole model.
        num_shares: of the noise; every site adds one.
    """

    clip_norm: float
    num_shares: int = 1

    @property
    def std(self) -> float:
        """The standard deviation of a site's noise."""
        return self.noise_multiplier * self.clip_norm / math.sqrt(self.num_shares)

    def sent(
        self,
        start: Mapping[str, Tensor],
        local: Mapping[str, Tensor],
        streams: Streams,
        round: int,
        site: int,
        num_sites: int,
    ) -> dict[str, Tensor]:
        """Return the local model as it leaves its site: its update clipped, with noise.

        Args:
            start: parameters that the site started from, by name.
            local: what it made of them; same names.
            streams: of the scenario; each site has noise of its own in each round.
            round: which one, 1-based.
            site: which one.
            num_sites: of the scenario.
        """
        from fedsim.privacy.clipping import noisy_model

        generator = streams.torch_apart(NOISE, round * num_sites + site)
        return noisy_model(start, local, self.clip_norm, self.std, generator)
