"""What must hold between a strategy and the sites; see `fedsim.scenario.rules`."""

from __future__ import annotations

from collections.abc import Iterator

from fedsim.errors import DataError
from fedsim.privacy import Local
from fedsim.scenario.cohort import AllSites, Cyclic, FixedSize
from fedsim.scenario.messages import Problem
from fedsim.scenario.scenario import Scenario
from strategies import FedNova, Krum, PrincipalGradient, QFedAvg


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
        yield from every_step_counts(scenario, "fed_nova")
    if isinstance(strategy, QFedAvg):
        yield from _same(
            "learning_rate",
            strategy.learning_rate,
            optimizer.learning_rate,
            "q_fed_avg makes gradients of updates by it",
        )
    if isinstance(strategy, PrincipalGradient) and strategy.debias:
        yield from _noise_in_updates(scenario)
    if isinstance(strategy, Krum):
        yield from _enough_honest(strategy, _largest_cohort(scenario))


def _noise_in_updates(scenario: Scenario) -> Iterator[Problem]:
    """What is taken out of the lengths of updates must be in them, and known."""
    if scenario.privacy is None:
        yield Problem(
            ("strategy", "debias"), "no site adds noise to its update: leave this key out"
        )
    elif not isinstance(scenario.privacy.mechanism, Local):
        kind = scenario.privacy.mechanism.kind
        yield Problem(
            ("strategy", "debias"),
            f"how much noise is in an update is known where it is added once, to the update "
            f"itself, under the mechanism local; under {kind} it is not: leave this key out",
        )


def every_step_counts(scenario: Scenario, method: str) -> Iterator[Problem]:
    """What counts the steps of a site needs them all to be taken."""
    for number, group in enumerate(scenario.population.devices):
        if group.precision == "fp16":
            yield Problem(
                ("population", "devices", number, "precision"),
                f"{method} counts steps, and fp16 leaves some out: use bf16 or fp32",
            )


def _same(key: str, ours: float, theirs: float, why: str) -> Iterator[Problem]:
    if ours != theirs:
        yield Problem(
            ("strategy", key),
            f"is {ours:g}, but the sites' is {theirs:g}: {why}, so give {theirs:g} here too",
        )


def _enough_honest(krum: Krum, num_sites: int | None) -> Iterator[Problem]:
    f = krum.num_byzantine
    if num_sites is None or not f:
        return
    most = max((num_sites - 3) // 2, 0)
    if f > most:
        yield Problem(
            ("strategy", "num_byzantine"),
            f"of {num_sites} sites in a round Krum withstands at most {most} "
            f"({f} need {2 * f + 3} sites)",
        )
    elif krum.num_selected > num_sites - f:
        yield Problem(
            ("strategy", "num_selected"),
            f"the mean of {krum.num_selected} of {num_sites} sites holds some of the {f} that may "
            f"be Byzantine: give {num_sites - f} at most",
        )


def _largest_cohort(scenario: Scenario) -> int | None:
    """Return how many sites take part in a round, None where chance decides or nobody knows."""
    if isinstance(scenario.cohort, FixedSize | Cyclic):
        return scenario.cohort.num_sites
    if not isinstance(scenario.cohort, AllSites):
        return None
    try:
        return len(scenario.site_names) - len(set(scenario.population.holdout_sites))
    except DataError:
        return None  # told where the sites are
