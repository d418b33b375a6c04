"""Which sites take part in a round."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import numpy as np
from pydantic import Field

from fedsim.plugins import Part
from fedsim.seeds import Streams


class Cohort(Part):
    """A rule that draws the sites of a round."""

    kind: str

    @abstractmethod
    def draw(self, num_sites: int, round: int, streams: Streams) -> list[int]:
        """Return the sites of a round in ascending order.

        Args:
            num_sites: of the population.
            round: 1-based.
            streams: of the run.
        """

    def separation(self, num_sites: int) -> int:
        """Return the largest number of successive rounds in which no site takes part twice."""
        return 1

    @abstractmethod
    def num_expected(self, num_sites: int) -> float:
        """Return how many sites a round has on average."""


class AllSites(Cohort):
    """Every site in every round."""

    kind: Literal["all"] = "all"

    def draw(self, num_sites: int, round: int, streams: Streams) -> list[int]:
        """Return all sites."""
        return list(range(num_sites))

    def num_expected(self, num_sites: int) -> float:
        """Return the number of all sites."""
        return num_sites


class FixedSize(Cohort):
    """The same number of sites in every round, drawn without replacement."""

    kind: Literal["fixed_size"] = "fixed_size"
    num_sites: int = Field(gt=0)

    def draw(self, num_sites: int, round: int, streams: Streams) -> list[int]:
        """Return `self.num_sites` different sites."""
        return _choose(num_sites, self.num_sites, streams.numpy("cohort", round=round))

    def num_expected(self, num_sites: int) -> float:
        """Return `self.num_sites`."""
        return self.num_sites


class Poisson(Cohort):
    """Every site independently with the same probability; a round may have no site at all."""

    kind: Literal["poisson"] = "poisson"
    sampling_rate: float = Field(gt=0, le=1)

    def draw(self, num_sites: int, round: int, streams: Streams) -> list[int]:
        """Return the sites whose coin came up: as many as that may be, any of them alike."""
        rng = streams.numpy("cohort", round=round)
        return _choose(num_sites, int(rng.binomial(num_sites, self.sampling_rate)), rng)

    def num_expected(self, num_sites: int) -> float:
        """Return q N."""
        return self.sampling_rate * num_sites


class Cyclic(Cohort):
    """Sites take turns, in an order that the seed decides: each once in every cycle.

    A cycle has as few rounds as that takes, with cohorts whose sizes differ by one at most.
    """

    kind: Literal["cyclic"] = "cyclic"
    num_sites: int = Field(gt=0, description="of a round, at most")

    def draw(self, num_sites: int, round: int, streams: Streams) -> list[int]:
        """Return the sites whose turn it is."""
        order = streams.numpy("cohort").permutation(num_sites)
        rounds = self.separation(num_sites)
        return sorted(order[(round - 1) % rounds :: rounds].tolist())

    def num_expected(self, num_sites: int) -> float:
        """Return the mean over a cycle."""
        return num_sites / self.separation(num_sites)

    def separation(self, num_sites: int) -> int:
        """Return the rounds of a cycle."""
        return math.ceil(num_sites / self.num_sites)


def _choose(num_sites: int, num: int, rng: np.random.Generator) -> list[int]:
    """Return `num` different sites, ascending, without looking at the others."""
    return sorted(rng.choice(num_sites, num, replace=False, shuffle=False).tolist())


BUILTIN = (AllSites, FixedSize, Poisson, Cyclic)
