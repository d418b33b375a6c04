"""What must hold between a strategy and the sites; see `fedsim.scenario.rules`."""

from __future__ import annotations

from collections.abc import Iterator

from fedsim.errors import DataError
from fedsim.scenario.cohort import AllSites, FixedSize
from fedsim.scenario.messages import Problem
from fedsim.scenario.scenario import Scenario
from strategies import FedNova, Krum, QFedAvg


def broken_by_strategy(scenario: Scenario) -> Iterator[Problem]:
    """Yield the rules that the strategy breaks."""
    strategy, optimizer = scenario.strategy, scenario.client.optimizer
    if isinstance(strategy, FedNova):
        yield from _same(
            "momentum",
            strategy.momentum,
            getattr(optimizer, "momentum", 0.0),
            "fed_nova counts steps by it",
        )
    if isinstance(strategy, QFedAvg):
        yield from _same(
            "learning_rate",
            strategy.learning_rate,
            optimizer.learning_rate,
            "q_fed_avg makes gradients of updates by it",
        )
    if isinstance(strategy, Krum):
        yield from _enough_honest(strategy.num_byzantine, _largest_cohort(scenario))


def _same(key: str, ours: float, theirs: float, why: str) -> Iterator[Problem]:
    if ours != theirs:
        yield Problem(
            ("strategy", key),
            f"is {ours:g}, but the sites' is {theirs:g}: {why}, so give {theirs:g} here too",
        )


def _enough_honest(num_byzantine: int, num_sites: int | None) -> Iterator[Problem]:
    most = (num_sites - 3) // 2 if num_sites is not None else num_byzantine
    if num_byzantine > max(most, 0):
        yield Problem(
            ("strategy", "num_byzantine"),
            f"of {num_sites} sites in a round Krum withstands at most {max(most, 0)} "
            f"({num_byzantine} need {2 * num_byzantine + 3} sites)",
        )


def _largest_cohort(scenario: Scenario) -> int | None:
    """Return how many sites take part in a round, None where chance decides or nobody knows."""
    if isinstance(scenario.cohort, FixedSize):
        return scenario.cohort.num_sites
    if not isinstance(scenario.cohort, AllSites):
        return None
    try:
        return len(scenario.site_names) - len(set(scenario.population.holdout_sites))
    except DataError:
        return None  # told where the sites are
