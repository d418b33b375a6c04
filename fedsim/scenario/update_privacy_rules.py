"""What must hold of a scenario whose client updates are private; see `privacy_rules`."""

from __future__ import annotations

from collections.abc import Iterator

from fedsim.adversaries import OmniscientAttack
from fedsim.errors import DataError
from fedsim.privacy import AggregateMechanism, Distributed, DpFtrl
from fedsim.scenario.cohort import AllSites, Cyclic, FixedSize, Poisson
from fedsim.scenario.flower_strategy import FlowerStrategy
from fedsim.scenario.messages import Problem
from fedsim.scenario.scenario import Scenario
from strategies import WeightedMean
from strategies.principal_gradient import UPDATE_NOISE

UNIFORM = "{kind: weighted_mean, weights: uniform}"


def broken(scenario: Scenario) -> Iterator[Problem]:
    """Yield the rules that mechanisms on client updates make, and the scenario breaks."""
    mechanism = None if scenario.privacy is None else scenario.privacy.mechanism
    if isinstance(mechanism, AggregateMechanism):
        yield from _mean(scenario)
        yield from _cohort(scenario, mechanism)
    else:
        yield from _beside(scenario)
    if getattr(scenario.client.objective, "prior", "site") == "population":
        yield Problem(
            ("client", "objective", "prior"),
            "every site would train with the class counts of all of them, so that one site moves "
            "the updates of all: use site",
        )
    if scenario.client.personalisation is not None:
        yield Problem(
            ("client", "personalisation"),
            f"{scenario.client.personalisation.kind} trains a model of each site without noise, "
            "and what it says of images is released: leave it out",
        )


def _mean(scenario: Scenario) -> Iterator[Problem]:
    """One site must move what is released by no more than C / D."""
    strategy = scenario.strategy
    if isinstance(strategy, WeightedMean):
        if strategy.weights != "uniform":
            yield Problem(
                ("strategy", "weights"),
                "one site moves a mean weighted by examples by clip_norm times its weight, which "
                "is more than the noise is made for, and the weights tell of the images: use "
                "uniform",
            )
        return
    kind = strategy.name if isinstance(strategy, FlowerStrategy) else strategy.kind
    yield Problem(
        ("strategy",),
        f"{kind} is no fixed mean of the updates: one site may move what it makes of them by about "
        "clip_norm, however many sites there are, and the noise is for clip_norm / their number. "
        f"Use {UNIFORM}, with a server_optimizer if you like (it sees the noisy mean), or a "
        "mechanism whose noise is added at the sites: example_level",
    )


def _cohort(scenario: Scenario, mechanism: AggregateMechanism) -> Iterator[Problem]:
    """What a round costs must be known of its cohort."""
    cohort = scenario.cohort
    if isinstance(mechanism, DpFtrl):
        yield from _turns(scenario, mechanism)
    elif not isinstance(cohort, AllSites | FixedSize | Poisson | Cyclic):
        yield Problem(
            ("cohort",),
            f"what a round costs is not known for {cohort.kind}: use all, fixed_size, poisson or "
            "cyclic",
        )
    if isinstance(mechanism, Distributed):
        yield from _shares(scenario)
    else:
        yield from _attackers(scenario)
    yield from _sizes(scenario, mechanism)


def _turns(scenario: Scenario, mechanism: DpFtrl) -> Iterator[Problem]:
    """No site may take part in two rounds that share noise."""
    if not isinstance(scenario.cohort, Cyclic):
        yield Problem(
            ("cohort",),
            f"under {scenario.cohort.kind} a site may take part in rounds that share noise, and "
            "spends more then than is accounted: use {kind: cyclic, num_sites: ...}, or the "
            "mechanism client_level, whose rounds share none",
        )
        return
    num_sites = _num_sites(scenario)
    if num_sites is None:
        return
    separation = scenario.cohort.separation(num_sites)
    if not mechanism.factorisation.suits(separation):
        yield Problem(
            ("privacy", "mechanism", "factorisation"),
            f"a site takes part again after {separation} rounds, so no more may share noise: give "
            f"bands: {separation} at most, or auto",
        )


def _shares(scenario: Scenario) -> Iterator[Problem]:
    """A sum must have the noise of as many honest sites as the ledger says."""
    if isinstance(scenario.cohort, Poisson):
        yield Problem(
            ("cohort",),
            "how many sites a Poisson cohort has is left to chance, and a server that is not "
            "trusted sees who they are, so that nothing is gained: use all or fixed_size",
        )
    if scenario.population.adversaries:
        yield Problem(
            ("population", "adversaries"),
            "add no honest share of the noise, and nobody but their sites sees whether an update "
            "was clipped: leave this key out, or use client_level, where the server clips",
        )


def _attackers(scenario: Scenario) -> Iterator[Problem]:
    """What one site sends must move no update of another's."""
    for number, part in enumerate(scenario.population.adversaries):
        if isinstance(part, OmniscientAttack):
            yield Problem(
                ("population", "adversaries", number, "kind"),
                f"{part.kind} makes what its sites send of the other sites' updates before they "
                "are clipped, so that one site moves as many updates as there are attackers: use "
                "an attack that knows its own update alone, such as sign_flip or scaled_update",
            )


def _sizes(scenario: Scenario, mechanism: AggregateMechanism) -> Iterator[Problem]:
    """A round must have enough sites, as far as can be said before noise is calibrated."""
    num_sites = _num_sites(scenario)
    if num_sites is None:
        return
    noise = 0.0 if mechanism.noise_multiplier == "auto" else mechanism.noise_multiplier
    if found := mechanism.too_few(noise, scenario.cohort.num_expected(num_sites)):
        field, why = found
        yield Problem(("privacy", "mechanism", field), why)


def _num_sites(scenario: Scenario) -> int | None:
    """Return how many sites may train, None if none may or the data do not say: told elsewhere."""
    try:
        num = len(scenario.site_names) - len(set(scenario.population.holdout_sites))
    except DataError:
        return None
    return num if num > 0 else None


def _beside(scenario: Scenario) -> Iterator[Problem]:
    """Nothing that training images decide may leave a site beside its update."""
    strategy = scenario.strategy
    asked = () if isinstance(strategy, FlowerStrategy) else strategy.reports + strategy.collects
    asked = tuple(name for name in asked if name != UPDATE_NOISE)
    if asked:
        yield Problem(
            ("strategy",),
            f"{strategy.kind} asks sites for {', '.join(asked)} beside their updates, which is "
            f"neither clipped nor noised: use {UNIFORM}",
        )
