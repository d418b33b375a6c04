"""What must hold of what sites know of their labels; see `fedsim.scenario.rules`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from clients.objectives.bag import AggregateObjective
from fedsim.adversaries import LabelFlip
from fedsim.data.resampled import Resampled
from fedsim.data.source import Facts
from fedsim.data.supervised import sites_of
from fedsim.data.supervision import InBags, Labels, Supervision
from fedsim.errors import DataError
from fedsim.plugins import kind_of
from fedsim.scenario.families import FAMILIES
from fedsim.scenario.flower_strategy import FlowerStrategy
from fedsim.scenario.messages import Problem, no_site
from fedsim.scenario.scenario import Scenario
from fedsim.scenario.yaml_tree import Path
from strategies.q_fed_avg import START_LOSS

PATH: Path = ("population", "supervision")
BAG_LOSS = "bag_loss"
"""The metric that a site can tell without labels."""
SAID = {"labels": "labels of their own", "bags": "bags alone", "nothing": "no labels"}


def broken(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    """Yield the rules that the knowledge of a scenario's sites breaks."""
    yield from _learnt(scenario)
    yield from _unshrunk(scenario)
    yield from _prior(scenario)
    if not scenario.population.supervision:
        return
    if isinstance(scenario.population.partition, Resampled):
        yield Problem(
            PATH,
            "sites of the partition resampled share their examples, so no site can have labels of "
            "its own: leave it out",
        )
        return
    yield from _told(scenario)
    yield from _named(scenario)
    yield from _grouped(scenario, facts)
    yield from _with_labels(scenario)
    yield from _randomised_alike(scenario)
    yield from _selecting(scenario)


def known(scenario: Scenario) -> dict[str, list[str]]:
    """Return for each kind of knowledge the sites that have it; of a million, one where all do."""
    try:
        if not scenario.population.supervision:
            return {"labels": [scenario.site_names[0]]}
        names = [n for n in scenario.site_names if n not in scenario.population.holdout_sites]
    except DataError:
        return {}  # told where the sites are
    parts, found = sites_of(scenario.population.supervision, names), dict[str, list[str]]()
    for site, name in enumerate(names):
        found.setdefault(parts[site].gives if site in parts else "labels", []).append(name)
    return found


def _learnt(scenario: Scenario) -> Iterator[Problem]:
    """The objective must be able to learn from what every site knows."""
    objective = scenario.client.objective
    for kind, names in known(scenario).items():
        if kind not in objective.takes:
            yield Problem(
                ("client", "objective", "kind"),
                f"{objective.kind} learns from {' or '.join(sorted(objective.takes))}, and "
                f"{names[0]} has {SAID[kind]}: {_way_out(scenario)}",
            )


def _way_out(scenario: Scenario) -> str:
    """Return which objectives learn from all that sites know."""
    kinds = set(known(scenario))
    objectives: Sequence[Any] = FAMILIES["objectives"]
    suited = [part for part in objectives if part.takes >= kinds]
    if scenario.data.task != "regression":
        return f"use one of {', '.join(map(kind_of, suited))}"
    squared = [kind_of(part) for part in suited if issubclass(part, AggregateObjective)]
    if squared:
        return f"use one of {', '.join(squared)}, with criterion: squared"
    return "no objective of a regression does: give it labels or bags, or leave it out"


def _told(scenario: Scenario) -> Iterator[Problem]:
    """What is told of labels must be what the task has."""
    regression = scenario.data.task == "regression"
    for number, part in enumerate(scenario.population.supervision):
        if isinstance(part, InBags):
            problems = _of_numbers(part) if regression else _of_classes(part)
        else:
            problems = _single_numbers(part) if regression else iter(())
        yield from (Problem((*PATH, number, key), message) for key, message in problems)


def _of_numbers(part: InBags) -> Iterator[tuple[str, str]]:
    if part.response != "mean":
        yield "response", f"{part.response} is of classes, numbers have a mean: leave it out"
    mechanism = part.label_privacy
    if mechanism is None:
        return
    if mechanism.whole_numbers:
        yield (
            "label_privacy",
            f"{mechanism.kind} adds whole numbers to counts of classes: use laplace or gaussian",
        )
    if part.truncation is None:
        yield (
            "truncation",
            "is required: noise hides a number within a public range alone, which you know "
            "beforehand, as in truncation: {low: 0, high: 15}",
        )


def _of_classes(part: InBags) -> Iterator[tuple[str, str]]:
    if part.response == "mean":
        yield "response", "mean is of a regression, classes have proportions: leave it out"
    if part.truncation is not None:
        yield "truncation", "is for the numbers of a regression: leave it out"


def _single_numbers(part: Supervision) -> Iterator[tuple[str, str]]:
    if isinstance(part, Labels) and part.label_privacy is not None:
        yield (
            "label_privacy",
            f"{part.label_privacy.kind} is for classes: use bags with laplace or gaussian (of one "
            "image, bag_size: 1)",
        )


def _unshrunk(scenario: Scenario) -> Iterator[Problem]:
    """Only what bags alone have shrunk can be widened by their size."""
    if "unshrunk" not in scenario.baselines:
        return
    parts = [part for part in scenario.population.supervision if isinstance(part, InBags)]
    means = all(part.response != "highest" for part in parts)
    if set(known(scenario)) != {"bags"} or not means:
        yield Problem(
            ("baselines", scenario.baselines.index("unshrunk")),
            "takes back what the proportions or means of bags shrink, so every site must know bags "
            "and these alone: leave it out",
        )


def _named(scenario: Scenario) -> Iterator[Problem]:
    parts, names = scenario.population.supervision, scenario.site_names
    seen: dict[str, int] = {}
    for number, part in enumerate(parts):
        sites = ("rest",) if part.sites == "rest" else part.sites
        for index, name in enumerate(sites):
            path: Path = (*PATH, number, "sites") + (() if part.sites == "rest" else (index,))
            if part.sites != "rest" and name not in names:
                yield Problem(path, no_site(name, names))
            elif name in seen:
                yield Problem(path, f"{name!r} is in entry {seen[name]} already: name it once")
            seen[name] = number


def _grouped(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    """What groups images into bags must be known."""
    for number, part in enumerate(scenario.population.supervision):
        column = part.draw.needs_column if isinstance(part, InBags) else None
        if column is not None and column not in facts.columns:
            there = ", ".join(facts.columns) or "none"
            yield Problem(
                (*PATH, number, "draw", "column"),
                f"the data have no column {column!r} (they have: {there})",
            )


def _prior(scenario: Scenario) -> Iterator[Problem]:
    objective = scenario.client.objective
    if getattr(objective, "prior", "site") == "population" and isinstance(
        scenario.population.partition, Resampled
    ):
        yield Problem(
            ("client", "objective", "prior"),
            "nobody knows the prior of sites that draw their examples as they take part: use site",
        )


def _with_labels(scenario: Scenario) -> Iterator[Problem]:
    """Refuse what looks at labels that sites do not have."""
    found = known(scenario)
    if set(found) <= {"labels"}:
        return
    without = next(names[0] for kind, names in found.items() if kind != "labels")
    why = f"it needs the labels of every site, and {without} has none"
    if scenario.evaluation.loss_decomposition:
        yield Problem(("evaluation", "loss_decomposition"), f"{why}: set it to false")
    strategy = scenario.strategy
    if not isinstance(strategy, FlowerStrategy) and START_LOSS in strategy.reports:
        yield Problem(("strategy",), f"{why}: use another strategy")
    for index, adversary in enumerate(scenario.population.adversaries):
        if isinstance(adversary, LabelFlip):
            yield Problem(
                ("population", "adversaries", index),
                f"{why} to flip: use another attack, or give every site labels",
            )
    if "nothing" in found:
        for index, name in enumerate(scenario.baselines):
            yield Problem(
                ("baselines", index),
                f"{name} trains as a site does, and {found['nothing'][0]} knows nothing of its "
                "labels: leave it out",
            )


def _randomised_alike(scenario: Scenario) -> Iterator[Problem]:
    """Labels of sites that train together must be wrong by the same chance."""
    names = [n for n in scenario.site_names if n not in scenario.population.holdout_sites]
    parts = sites_of(scenario.population.supervision, names)
    found = [parts.get(site, Labels()) for site in range(len(names))]
    laws = {part.label_privacy for part in found if isinstance(part, Labels)}
    if len(laws) > 1 and "pooled" in scenario.baselines:
        yield Problem(
            ("baselines", scenario.baselines.index("pooled")),
            "pooled trains on the labels of all sites together, and they are not all randomised "
            "alike: leave it out",
        )


def _selecting(scenario: Scenario) -> Iterator[Problem]:
    """What chooses the best round must be known to some site."""
    found, evaluation = known(scenario), scenario.evaluation
    if "labels" in found:
        return
    if "bags" not in found:
        yield Problem(PATH, "no site knows anything of its labels: give some labels or bags")
    elif evaluation.select_by != BAG_LOSS:
        yield Problem(
            ("evaluation", "select_by"),
            f"no site has labels, so none can tell the {evaluation.select_by} of its validation "
            f"images: select by {BAG_LOSS}, and put it among evaluation.metrics",
        )
