"""A client update that its site clips and adds noise to before it is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedsim.privacy.mechanism import Release


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
