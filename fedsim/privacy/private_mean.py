"""Means of client updates that the server releases, of which no update is kept.

The divisor D is a public number, whoever answers: a site that does not answer, or whose update is
not finite, counts as an update of zero.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fedsim.privacy.adaptive_clip import AdaptiveClip
from fedsim.privacy.clipping import add_noise, clip_factor, norm

if TYPE_CHECKING:
    from fedsim.seeds import Streams

NOISE = "aggregate_noise"
"""Name of the random stream."""


class PrivateMean(ABC):
    """The mean of the updates of one round after the other.

    Args:
        num_expected: D, sites that are expected in a round.
    """

    def __init__(self, num_expected: float) -> None:
        self.num_expected = num_expected
        self._totals: dict[str, Tensor] = {}

    def begin(self, zero: Mapping[str, Tensor]) -> None:
        """Begin a round.

        Args:
            zero: an update of zero, by parameter name, float64; is changed.
        """
        self._totals = dict(zero)

    @abstractmethod
    def take(self, update: Mapping[str, Tensor]) -> bool:
        """Add what a site sent, local minus global parameters in float64; return if it counts."""

    @property
    def suffices(self) -> bool:
        """Whether what was taken in this round may be released."""
        return True

    @abstractmethod
    def release(self, round: int) -> dict[str, Tensor]:
        """Return the mean that is released in a round; what was taken is used up."""

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on after a round."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        assert not state


class NoisyMean(PrivateMean):
    """(sum_k clip(g_k, C) + N(0, (z C)^2)) / D, one norm for the whole model.

    Args:
        clip_norm: C, or C_0 where it adapts.
        noise_multiplier: z.
        num_expected: D.
        streams: of which one per round makes the noise.
        adaptive_clip: how C follows the norms, if it does.

    Raises:
        ValueError: if D is too small for a clip that adapts.
    """

    def __init__(
        self,
        clip_norm: float,
        noise_multiplier: float,
        num_expected: float,
        streams: Streams,
        adaptive_clip: AdaptiveClip | None = None,
    ) -> None:
        super().__init__(num_expected)
        self.clip_norm, self._adaptive_clip, self._streams = clip_norm, adaptive_clip, streams
        self._noise = noise_multiplier
        if adaptive_clip is not None:
            self._noise = adaptive_clip.update_noise(noise_multiplier, num_expected)
        self._votes = 0.0

    def begin(self, zero: Mapping[str, Tensor]) -> None:
        """Begin a round."""
        super().begin(zero)
        self._votes = 0.0

    def take(self, update: Mapping[str, Tensor]) -> bool:
        """Add an update, shortened to C where it is longer; return whether it is finite."""
        length = norm(update)
        if not math.isfinite(length):
            return False
        factor = clip_factor(length, self.clip_norm)
        self._votes += 0.5 if length <= self.clip_norm else -0.5
        for name, total in self._totals.items():
            total.add_(update[name], alpha=factor)
        return True

    def release(self, round: int) -> dict[str, Tensor]:
        """Return the noisy mean; then let C adapt, with noise of its own."""
        generator = self._streams.torch_apart(NOISE, round)
        for total in self._totals.values():
            add_noise(total, self._noise * self.clip_norm, generator)
            total /= self.num_expected
        if self._adaptive_clip is not None:
            votes = torch.tensor([self._votes], dtype=torch.float64)
            add_noise(votes, self._adaptive_clip.sigma_b(self.num_expected), generator)
            fraction = 0.5 + float(votes) / self.num_expected
            self.clip_norm = self._adaptive_clip.next(self.clip_norm, fraction)
        return self._totals

    def state(self) -> dict[str, Any]:
        """Return C as it is now."""
        return {"clip_norm": self.clip_norm}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with what C was."""
        self.clip_norm = float(state["clip_norm"])


class SecureSum(PrivateMean):
    """sum_k g_k / D of updates that were clipped and noised by their sites, and nothing else.

    Args:
        num_expected: D.
        min_survivors: sites whose updates it takes at least.
    """

    def __init__(self, num_expected: float, min_survivors: int) -> None:
        super().__init__(num_expected)
        self._min_survivors, self._num = min_survivors, 0

    def begin(self, zero: Mapping[str, Tensor]) -> None:
        """Begin a round."""
        super().begin(zero)
        self._num = 0

    def take(self, update: Mapping[str, Tensor]) -> bool:
        """Add an update as it came."""
        self._num += 1
        for name, total in self._totals.items():
            total.add_(update[name])
        return True

    @property
    def suffices(self) -> bool:
        """Whether enough sites answered for the noise to be what the ledger says."""
        return self._num >= self._min_survivors

    def release(self, round: int) -> dict[str, Tensor]:
        """Return the sum over D."""
        return {name: total / self.num_expected for name, total in self._totals.items()}
