"""Noise that rounds have in common, put to the test.

Of x_t + w_t, the noisy sums of all rounds, with w = C^-1 z, whoever sees them makes C x + z, in
which rounds have noise of their own. A site that takes part in round t moves that along the column
c_t of C, and c_t (C x + z) / |c_t|^2 shows whether it did with noise of sigma / |c_t|. The columns
of one site's rounds share no row, so that each of its rounds is a release with noise of its own;
canaries take part in rounds whose columns are the longest, one in each cycle.

Two more tests: no site moves C x by more than the ledger charges, which is algebra and has no
error; and the noise in the sum of the rounds is what the factorisation says, no less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from fedsim.audit.bench import Bench
from fedsim.audit.bounds import standard_deviation
from fedsim.audit.claims import Claim
from fedsim.audit.finding import CONFIDENCE, Finding
from fedsim.audit.server_bench import released_sum
from fedsim.privacy.directed_rounding import rounded_up
from fedsim.privacy.matrix_factorisation import Factorisation
from fedsim.privacy.private_mean import PrivateMean
from fedsim.seeds import Streams

MOST_ROUNDS = 4000
"""In all sequences of a test."""
LONGEST, MOST_CYCLES = 1000, 40
"""Rounds of a sequence, if a cycle is not longer, and how often a site takes part in it."""
NUM_SUMS = 4000
"""Directions in which noise is summed over rounds."""
TOLERANCE = 1e-9


@dataclass(frozen=True)
class SequenceBench(Bench):
    """The server's means of all rounds together.

    Args:
        streams: of the audit.
        mean: function of sigma, D, streams and separation -> what makes the means.
        factorisation: what noise rounds are to have in common.
        separation: successive rounds in which no site takes part twice: a cycle.
        clip_norm: C, the sensitivity.
    """

    streams: Streams
    mean: Callable[[float, float, Streams, int], PrivateMean]
    factorisation: Factorisation
    separation: int
    clip_norm: float

    @property
    def most_steps(self) -> int:
        """Releases are rounds of one site; a cycle has many."""
        return max(1, min(super().most_steps, MOST_ROUNDS // self.separation))

    @property
    def num_cycles(self) -> int:
        """How often a site takes part in a sequence."""
        return max(1, min(MOST_CYCLES, LONGEST // self.separation - 1))

    @cached_property
    def inverse(self) -> NDArray[np.float64]:
        """C^-1 of a sequence, (round, round); the last cycle is there for the columns to end."""
        num_rounds = (self.num_cycles + 1) * self.separation
        unit = torch.eye(num_rounds, dtype=torch.float64)
        rows = list(self.factorisation.correlated(unit, self.separation))
        found: NDArray[np.float64] = torch.stack(rows).numpy()
        return found

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """C of a sequence, (round, round)."""
        unit = np.eye(len(self.inverse))
        found: NDArray[np.float64] = solve_triangular(self.inverse, unit, lower=True)
        return found

    def released(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        num_steps: int,
        units: NDArray[np.float64],
        **keys: int,
    ) -> NDArray[np.float64]:
        """Return what each round of the canaries' sites shows, (step, direction)."""
        sequences = [
            self._shown(
                noise_multiplier, min(self.num_cycles, num_steps - first), units, first, keys
            )
            for first in range(0, num_steps, self.num_cycles)
        ]
        return np.concatenate(sequences)

    def others(self, claim: Claim, number: int, error: float) -> list[Finding]:
        """Return how far a site moves C x, and how much noise is in the sum of the rounds."""
        return [self._reach(claim), self._sum(claim, number, error)]

    def _shown(
        self,
        noise: float,
        num_cycles: int,
        units: NDArray[np.float64],
        sequence: int,
        keys: dict[str, int],
    ) -> NDArray[np.float64]:
        """Return what a sequence shows of some cycles, (cycle, direction)."""
        num_rounds = (num_cycles + 1) * self.separation
        matrix = self.matrix[:num_rounds, :num_rounds]
        lengths = np.square(matrix).sum(0)
        longest = lengths[: self.separation].max() * (1 - TOLERANCE)
        places = np.flatnonzero(lengths[: self.separation] >= longest)
        place = places[np.arange(units.shape[1]) % len(places)]
        sums = self._sums(noise, num_rounds, units, place, sequence, keys)
        along = matrix.T @ (matrix @ sums)
        rounds = np.arange(num_cycles)[:, None] * self.separation + place
        shown: NDArray[np.float64] = np.take_along_axis(along, rounds, 0) / lengths[rounds]
        return shown

    def _sums(
        self,
        noise: float,
        num_rounds: int,
        units: NDArray[np.float64],
        place: NDArray[np.intp],
        sequence: int,
        keys: dict[str, int],
    ) -> NDArray[np.float64]:
        """Return the noisy sums of all rounds of a sequence, (round, direction).

        Args:
            noise: sigma.
            num_rounds: of the sequence.
            units: (unit, direction).
            place: of the units of each direction in their cycle, (direction,).
            sequence: its number.
            keys: of the random streams.
        """
        streams = Streams(self.streams.key("audit_server", **keys, sequence=sequence))
        mean = self.mean(noise, 1.0, streams, self.separation)
        turn = [units[(units[:, place == p] != 0).any(1)] for p in range(self.separation)]
        sums = [
            released_sum(
                mean, turn[round % self.separation] * self.clip_norm, units.shape[1], round + 1
            )
            for round in range(num_rounds)
        ]
        found: NDArray[np.float64] = np.stack(sums) / self.clip_norm
        return found

    def _reach(self, claim: Claim) -> Finding:
        """Return how far a site moves C x in all its rounds, over what the ledger charges."""
        reach = 0.0
        for place in range(self.separation):
            columns = self.matrix[:, place :: self.separation]
            # updates of several rounds may point in one direction, or in opposite ones
            reach = max(reach, math.sqrt(np.abs(columns.T @ columns).sum() / columns.shape[1]))
        alarm = ""
        if reach > 1 + TOLERANCE:
            alarm = (
                f"{claim.who}: rounds that share noise add up to {reach:.4g} times what the ledger "
                "charges"
            )
        return Finding("reach of a site over rounds", claim.who, reach, claim=1.0, alarm=alarm)

    def _sum(self, claim: Claim, number: int, error: float) -> Finding:
        """Return the noise in the sum of the rounds, over that which the factorisation says."""
        place = np.zeros(NUM_SUMS, dtype=np.intp)
        keys = {"claim": number, "case": 3}
        no_units = np.zeros((0, NUM_SUMS))
        num_rounds = len(self.inverse)
        sums = self._sums(claim.noise_multiplier, num_rounds, no_units, place, 0, keys)
        said = claim.noise_multiplier * np.linalg.norm(self.inverse.sum(0))
        numbers = sums.sum(0) / said
        seen = standard_deviation(numbers, 1 - CONFIDENCE)
        sure = standard_deviation(numbers, 2 * error)
        alarm = note = ""
        if sure.high < 1:
            alarm = (
                f"{claim.who}: the sum of the rounds has at most "
                f"{rounded_up(sure.high, '.3g')} times the noise that the factorisation says"
            )
        elif sure.low > 1:
            note = "more noise in the sum than the factorisation says"
        ends = seen.value, seen.low, seen.high
        return Finding("noise, sum of rounds", claim.who, *ends, 1.0, alarm=alarm, note=note)
