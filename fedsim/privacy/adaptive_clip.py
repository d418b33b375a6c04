"""A clipping bound that follows a quantile of the norms of client updates.

With C_t the bound of round t, b_k = 1 where the update of site k is no longer than C_t, and m the
number of sites that are expected in a round:

    b~ = 1/2 + (sum_k (b_k - 1/2) + N(0, sigma_b^2)) / m
    C_{t+1} = C_t exp(-eta (b~ - gamma))
    z_Delta = (z^-2 - (2 sigma_b)^-2)^(-1/2)

The updates of round t get noise of standard deviation z_Delta C_t. Noisy sum and noisy count are
together one Gaussian mechanism with noise multiplier z: a site moves one of them by C_t and the
other by 1/2 at most.

Source: Andrew et al., NeurIPS 2021, algorithm 1. Differences: m is the number that is expected,
also where other sites answered; one that did not moves the count by nothing, as does one whose
update is not finite.
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from fedsim.plugins import Part

LARGEST_SHARE = 0.25
"""Of the privacy of a round that the count may take; the updates get 15 % more noise then."""
LARGEST_ERROR = 0.1
"""Standard deviation of the noisy fraction, at most; in the paper it is half of it."""


class AdaptiveClip(Part):
    """The bound becomes the norm that a given part of the updates does not exceed."""

    quantile: float = Field(default=0.5, gt=0, lt=1, description="gamma, of the updates' norms")
    learning_rate: float = Field(
        default=0.2, gt=0, le=10, description="eta, of the bound's logarithm"
    )
    count_noise: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="sigma_b, standard deviation of the noise on the count of short updates; "
        "default: a twentieth of the sites that are expected in a round",
    )

    reference: ClassVar[str] = """@inproceedings{andrew2021differentially,
  title = {Differentially Private Learning with Adaptive Clipping},
  author = {Andrew, Galen and Thakkar, Om and McMahan, H. Brendan and Ramaswamy, Swaroop},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year = {2021},
}"""

    def sigma_b(self, num_expected: float) -> float:
        """Return the noise on the count, where so many sites are expected in a round."""
        return num_expected / 20 if self.count_noise is None else self.count_noise

    def update_noise(self, z: float, num_expected: float) -> float:
        """Return z_Delta, the noise multiplier of the updates.

        Args:
            z: of both together.
            num_expected: sites that are expected in a round, m.

        Raises:
            ValueError: if m is too small for the count.
        """
        sigma_b = self.sigma_b(num_expected)
        share, error = (z / (2 * sigma_b)) ** 2, sigma_b / num_expected
        if share > LARGEST_SHARE:
            raise ValueError(
                f"with {num_expected:g} sites in a round the count of short updates has noise of "
                f"{sigma_b:g}, and to hide a site beside noise_multiplier {z:g} it takes "
                f"{z / (2 * math.sqrt(LARGEST_SHARE)):.3g} at least ({20 * z:.3g} sites)"
            )
        if error > LARGEST_ERROR:
            raise ValueError(
                f"with {num_expected:g} sites in a round and count_noise {sigma_b:g} the noisy "
                f"fraction of short updates has a standard deviation of {error:.2g}, and may have "
                f"{LARGEST_ERROR:g}"
            )
        return z / math.sqrt(1 - share)

    def next(self, clip_norm: float, fraction: float) -> float:
        """Return C_{t+1} from C_t and b~."""
        return clip_norm * math.exp(-self.learning_rate * (fraction - self.quantile))
