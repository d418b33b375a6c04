"""Where known inputs are put through the code of a mechanism."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from fedsim.audit.claims import Claim
from fedsim.audit.finding import Finding
from fedsim.seeds import Streams

TOO_LONG = 10.0
"""How many times the bound what a canary contributes is long."""


class Bench(ABC):
    """Where known inputs are put through the code of a mechanism.

    Contributions, sums and noise are in units of the sensitivity, as in the ledger: of what one
    unit moves a sum by at most.
    """

    streams: Streams

    @property
    def middle(self) -> float:
        """Half-way between what a unit adds and what stands in its place: nothing, for a blank.

        Where units are replaced they add 1/2 or its opposite.
        """
        return 0.5

    @property
    def most_steps(self) -> int:
        """The largest number of releases that takes seconds."""
        return 500

    def units(self, coins: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return a unit for each direction, or what stands in its place, far too long.

        Args:
            coins: whether it is there, (direction,).
        """
        there, absent = self.middle + 0.5, self.middle - 0.5
        units: NDArray[np.float64] = np.diag(np.where(coins, there, absent) * TOO_LONG)
        return units

    @abstractmethod
    def released(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        num_steps: int,
        units: NDArray[np.float64],
        **keys: int,
    ) -> NDArray[np.float64]:
        """Return the noisy sums of all steps, (step, direction).

        Args:
            noise_multiplier: the noise's standard deviation.
            sampling_rate: q.
            num_steps: releases.
            units: (unit, direction), what each contributes before it is clipped; to one direction.
            keys: of the random streams.
        """

    def others(self, claim: Claim, number: int, error: float) -> list[Finding]:
        """Return what tests find that are for this kind of mechanism alone.

        Args:
            claim: what the ledger says.
            number: of the claim, for the random streams.
            error: probability of a false alarm of each, two at most.
        """
        return []
