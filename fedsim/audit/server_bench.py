"""The server's noisy means of client updates, put to the test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedsim.audit.bench import Bench
from fedsim.privacy.private_mean import PrivateMean
from fedsim.seeds import Streams

WEIGHT = "weight"


@dataclass(frozen=True)
class ServerBench(Bench):
    """Means whose rounds have nothing in common; who is in a cohort was drawn before.

    Args:
        streams: of the audit.
        mean: function of sigma, D and streams -> what makes the means.
        clip_norm: C, the sensitivity; that of the first round if it adapts.
        num_expected: D, which the noise on updates depends on where C adapts.
    """

    streams: Streams
    mean: Callable[[float, float, Streams], PrivateMean]
    clip_norm: float
    num_expected: float = 1.0

    def released(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        num_steps: int,
        units: NDArray[np.float64],
        **keys: int,
    ) -> NDArray[np.float64]:
        """Return the noisy sums of all steps, (step, direction)."""
        streams = Streams(self.streams.key("audit_server", **keys))
        updates = units * self.clip_norm
        mean = self.mean(noise_multiplier, self.num_expected, streams)
        begins = mean.state()
        sums = []
        for step in range(num_steps):
            mean.restore(begins)
            sums.append(released_sum(mean, updates, units.shape[1], step + 1) / self.clip_norm)
        return np.stack(sums)


def released_sum(
    mean: PrivateMean, updates: Iterable[NDArray[np.float64]], size: int, round: int
) -> NDArray[np.float64]:
    """Return the mean of a round times its denominator, (size,).

    Args:
        mean: what makes it.
        updates: each (size,).
        size: of an update.
        round: which one, 1-based.
    """
    mean.begin({WEIGHT: torch.zeros(size, dtype=torch.float64)})
    for update in updates:
        mean.take({WEIGHT: torch.from_numpy(update)})
    total: NDArray[np.float64] = mean.release(round)[WEIGHT].numpy() * mean.num_expected
    return total
