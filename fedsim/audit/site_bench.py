"""Noise that sites add to their own updates, put to the test.

A site has one update, and a sum of few sites has few: too little to look at many directions. So
what a unit adds is taken as the difference that it makes to an update of zero with the same noise,
and added to the sum of sites that have updates of zero. Another test, without error, looks whether
any unit makes a larger difference than the ledger says, in any direction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedsim.audit.bench import Bench
from fedsim.audit.claims import Claim
from fedsim.audit.finding import Finding
from fedsim.audit.server_bench import WEIGHT, released_sum
from fedsim.privacy.private_mean import PrivateMean
from fedsim.privacy.site_noise import SiteNoise
from fedsim.privacy.units import Relation
from fedsim.seeds import Streams

LENGTHS = (0.1, 1.0, 10.0, 1e5)
"""Of updates, over C."""
NUM_NUMBERS = 100
"""In an update whose reach is looked at."""
ROUNDING = 1e-3
"""Share of the sensitivity that single precision may add, noise included."""


@dataclass(frozen=True)
class SiteBench(Bench):
    """Updates that leave their sites with noise.

    Args:
        streams: of the audit.
        release: function of sigma -> what a site does to its update.
        relation: between updates that nobody shall tell apart.
        mean: makes what the server sees, the sum of the sites; None if it sees every update.
        num_sites: in that sum, no more than have to be.
    """

    streams: Streams
    release: Callable[[float], SiteNoise]
    relation: Relation
    mean: Callable[[], PrivateMean] | None = None
    num_sites: int = 1

    @property
    def middle(self) -> float:
        """Half-way between a unit and what stands in its place."""
        return 0.0 if self.relation == "replace_one" else 0.5

    @property
    def sensitivity(self) -> float:
        """Over C: two updates may be opposite ones, or one of them is zero."""
        return 2.0 if self.relation == "replace_one" else 1.0

    def released(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        num_steps: int,
        units: NDArray[np.float64],
        **keys: int,
    ) -> NDArray[np.float64]:
        """Return what the server sees in all steps, (step, direction)."""
        streams = Streams(self.streams.key("audit_sites", **keys))
        release, unit = self._made(noise_multiplier)
        alike = Counter(row.tobytes() for row in units)
        added = sum(
            num * self._added(release, np.frombuffer(row) * unit, streams)
            for row, num in alike.items()
        )
        blank = np.zeros(units.shape[1])
        seen = []
        for round in range(1, num_steps + 1):
            sent = [
                self._sent(release, blank, streams, round, site) for site in range(self.num_sites)
            ]
            seen.append(self._collected(sent, round) + added)
        found: NDArray[np.float64] = np.stack(seen) / unit
        return found

    def others(self, claim: Claim, number: int, error: float) -> list[Finding]:
        """Return how far a unit moves what is seen, and how few sites make a sum."""
        return [self._reach(claim, number), *self._survivors(claim)]

    def _made(self, noise_multiplier: float) -> tuple[SiteNoise, float]:
        """Return what a site does where noise is so much over the sensitivity, and that."""
        release = self.release(noise_multiplier * self.sensitivity)
        return release, release.clip_norm * self.sensitivity

    def _sent(
        self,
        release: SiteNoise,
        update: NDArray[np.float64],
        streams: Streams,
        round: int,
        site: int,
    ) -> NDArray[np.float64]:
        start = {WEIGHT: torch.zeros(len(update))}
        local = {WEIGHT: torch.from_numpy(update).float()}
        sent = release.sent(start, local, streams, round, site, self.num_sites)
        found: NDArray[np.float64] = sent[WEIGHT].double().numpy()
        return found

    def _added(
        self, release: SiteNoise, update: NDArray[np.float64], streams: Streams
    ) -> NDArray[np.float64]:
        """Return the difference that an update makes to one of zero with the same noise."""
        blank = np.zeros_like(update)
        with_it, without = (self._sent(release, u, streams, 1, 0) for u in (update, blank))
        return with_it - without

    def _collected(self, sent: list[NDArray[np.float64]], round: int) -> NDArray[np.float64]:
        if self.mean is None:
            (alone,) = sent
            return alone
        return released_sum(self.mean(), sent, len(sent[0]), round)

    def _reach(self, claim: Claim, number: int) -> Finding:
        """Return how far one unit moves what is seen at most, over the sensitivity."""
        streams = Streams(self.streams.key("audit_sites", claim=number, case=3))
        release, unit = self._made(claim.noise_multiplier)
        drawn = self.streams.numpy("audit_updates", claim=number).normal(
            size=(len(LENGTHS), NUM_NUMBERS)
        )
        updates = drawn / np.linalg.norm(drawn, axis=1)[:, None] * release.clip_norm
        reach = 0.0
        for length, update in zip(LENGTHS, updates, strict=True):
            moved = [self._added(release, update * length, streams)]
            if self.relation == "replace_one":
                moved.append(moved[0] - self._added(release, -update * length, streams))
            reach = max(reach, *(float(np.linalg.norm(one)) / unit for one in moved))
        alarm = ""
        if reach > 1 + ROUNDING:
            alarm = f"{claim.who}: an update moves what is seen by {reach:.4g} times the bound"
        return Finding("reach of an update", claim.who, reach, claim=1.0, alarm=alarm)

    def _survivors(self, claim: Claim) -> list[Finding]:
        """Return how many sites make a sum at least."""
        if self.mean is None:
            return []
        mean, num, zero = self.mean(), 0, {WEIGHT: torch.zeros(1, dtype=torch.float64)}
        mean.begin(dict(zero))
        while not mean.suffices:
            mean.take(zero)
            num += 1
        alarm = ""
        if num < self.num_sites:
            alarm = f"{claim.who}: a sum of {num} sites is released, not {self.num_sites} at least"
        return [Finding("sites in a sum", claim.who, num, claim=self.num_sites, alarm=alarm)]
