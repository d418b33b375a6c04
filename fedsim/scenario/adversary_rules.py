"""What must hold of the sites that attack; see `fedsim.scenario.rules`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedsim.adversaries import Adversary, LabelFlip, num_drawn
from fedsim.errors import DataError
from fedsim.scenario.messages import Problem, mistaken, no_site
from fedsim.scenario.scenario import Scenario
from fedsim.scenario.yaml_tree import Path


def broken(scenario: Scenario) -> Iterator[Problem]:
    """Yield the rules that the adversaries of a scenario break."""
    parts = scenario.population.adversaries
    if not parts:
        return
    try:
        names = scenario.site_names
    except DataError:
        return  # told where the sites are
    apart = {name for name in scenario.population.holdout_sites if name in names}
    for number, part in enumerate(parts):
        path: Path = ("population", "adversaries", number)
        yield from _sites(part, names, len(names) - len(apart), path)
        if part.from_round > scenario.rounds:
            yield Problem(
                (*path, "from_round"), f"would never attack: there are {scenario.rounds} rounds"
            )
        if isinstance(part, LabelFlip):
            yield from mistaken(part.mapping, len(scenario.data.classes), (*path, "mapping"))
    yield from _honest(scenario, names, apart)


def _sites(
    part: Adversary, names: Sequence[str], num_training: int, path: Path
) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name in enumerate(part.sites or ()):
        if name not in names:
            yield Problem((*path, "sites", index), no_site(name, names))
        elif name in seen:
            yield Problem((*path, "sites", index), f"{name!r} is listed twice")
        seen.add(name)
    if part.share is not None and num_training and not num_drawn(part.share, num_training):
        yield Problem(
            (*path, "share"),
            f"{part.share:g} of {num_training} sites is none: give at least {1 / num_training:.2g}",
        )


def _honest(scenario: Scenario, names: Sequence[str], apart: set[str]) -> Iterator[Problem]:
    """Some sites must be left that do not attack: there is nothing else to learn from."""
    sites = scenario.population
    asked = {name for part in sites.adversaries for name in part.sites or ()}
    named = {name for name in asked - apart if name in names}
    num = len(names) - len(apart)
    drawn = [num_drawn(part.share, num) for part in sites.adversaries if part.share is not None]
    if len(named) + sum(drawn) >= num:
        yield Problem(
            ("population", "adversaries"),
            f"leave no honest site: {len(named) + sum(drawn)} of the {num} that train attack",
        )
