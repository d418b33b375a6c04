"""What must hold between the sections of a scenario.

Everything here is decided from the scenario alone; what needs the labels is checked by
`fedsim.scenario.population` before any training starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice

from clients.metrics import METRICS, applicable
from fedsim.data.label_noise import Mistaken
from fedsim.data.normalisation import Standard
from fedsim.data.partition import Partition
from fedsim.data.resampled import Resampled
from fedsim.data.source import POOLED, SPLITS, Facts
from fedsim.errors import DataError
from fedsim.scenario import (
    adversary_rules,
    drawn_rules,
    local_rules,
    privacy_rules,
    supervision_rules,
    target_rules,
)
from fedsim.scenario.cohort import Cyclic, FixedSize
from fedsim.scenario.fleet_rules import broken_by_fleet
from fedsim.scenario.flower_strategy import RESERVED, UNSUITED, USABLE, FlowerStrategy
from fedsim.scenario.messages import MOST_EXPLAINED, Problem, mistaken, nearest, no_site
from fedsim.scenario.scenario import HeldOut, Scenario
from fedsim.scenario.strategy_rules import broken_by_strategy
from fedsim.scenario.yaml_tree import Path

LARGEST_BYTES = 2**40
"""Images of all sites are kept as float32 numbers; nobody has this much memory."""


def broken(scenario: Scenario) -> list[Problem]:
    """Return the rules that the scenario breaks, the first of many."""
    try:
        facts = scenario.data.source.facts()
    except DataError as error:
        return [Problem(("data", "source"), str(error))]
    label_map = scenario.data.label_map
    found = list(_label_map(label_map, facts, ("data", "label_map"))) or chain(
        _task(scenario, facts),
        target_rules.broken(scenario, facts),
        _images(scenario, facts),
        _sites(scenario, facts),
        drawn_rules.broken(scenario),
        supervision_rules.broken(scenario, facts),
        adversary_rules.broken(scenario),
        _client(scenario),
        local_rules.broken(scenario),
        broken_by_fleet(scenario),
        _server(scenario),
        broken_by_strategy(scenario),
        privacy_rules.broken(scenario, facts),
        _evaluation(scenario),
        _external(scenario, facts),
    )
    return list(islice(found, MOST_EXPLAINED))


def _label_map(label_map: Mapping[int, int] | None, facts: Facts, path: Path) -> Iterator[Problem]:
    """What the names of the classes, and so most rules, rest on."""
    if label_map is None:
        return
    source, targets = set(range(len(facts.class_names))), sorted(set(label_map.values()))
    if missing := sorted(source - set(label_map)):
        yield Problem(
            path, f"must map every class of the source, 0 to {max(source)}; missing: {missing}"
        )
    for label in sorted(set(label_map) - source):
        yield Problem((*path, str(label)), f"the source's classes are 0 to {max(source)}")
    if targets != list(range(len(targets))):
        yield Problem(path, f"must map to classes 0, 1, ... without gaps, got {targets}")
    elif len(targets) < 2:
        yield Problem(path, "leaves one class; a task needs at least two")


def _task(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    data = scenario.data
    num = len(facts.class_names if data.label_map is None else set(data.label_map.values()))
    if data.task == "binary" and num != 2:
        yield Problem(
            ("data", "task"),
            f"a binary task has two classes, this one has {num}: "
            "give a label_map to two classes, or task: multiclass or ordinal",
        )
    if data.task == "ordinal":
        grades = [data.label_map[c] for c in sorted(data.label_map)] if data.label_map else None
        if not facts.ordinal and grades is None:
            yield Problem(
                ("data", "task"),
                "the classes of this source are no grades: give a label_map that puts them in "
                "ascending order, or task: multiclass",
            )
        if facts.ordinal and grades and grades not in (sorted(grades), sorted(grades)[::-1]):
            yield Problem(("data", "label_map"), "must keep the order of the source's grades")
    if data.positive_class >= num:
        yield Problem(("data", "positive_class"), f"the classes of the task are 0 to {num - 1}")
    if data.class_names is None:
        return
    if len(data.class_names) != num:
        yield Problem(
            ("data", "class_names"),
            f"the task has {num} classes, but {len(data.class_names)} names are given",
        )
    yield from _repeated(data.class_names, ("data", "class_names"))


def _images(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    data, model = scenario.data, scenario.model
    if facts.image_size < model.min_image_size:
        yield Problem(
            ("model",),
            f"{model.kind} takes images of at least {model.min_image_size} pixels, these have "
            f"{facts.image_size}: choose a larger data.source.image_size or another model",
        )
    if data.augmentation.max_shift >= facts.image_size:
        yield Problem(
            ("data", "augmentation", "max_shift"),
            f"must be smaller than the image, which has {facts.image_size} pixels",
        )
    if isinstance(data.normalisation, Standard):
        for name in ("mean", "std"):
            given = len(getattr(data.normalisation, name))
            if given not in (1, facts.num_channels):
                yield Problem(
                    ("data", "normalisation", name),
                    f"give one number, or one for each of {facts.num_channels} channels; "
                    f"got {given}",
                )
    num_bytes = 4 * _num_examples(facts) * facts.num_channels * facts.image_size**2
    if num_bytes > LARGEST_BYTES:
        yield Problem(
            ("data", "source"),
            f"{_num_examples(facts)} images of {facts.image_size} pixels take "
            f"{num_bytes / 2**40:.0f} TiB of memory: ask for fewer or smaller ones",
        )


def _sites(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    sites = scenario.population
    if problems := list(_splits(scenario, facts)):
        yield from problems
        return
    try:
        decided = sites.partition.site_names(facts)
    except DataError as error:
        yield Problem(("population", "partition"), str(error))
        return
    path = ("population", "num_sites")
    if decided is None and sites.num_sites is None:
        yield Problem(path, f"this key is required by the partition {sites.partition.kind}")
        return
    if decided is not None and sites.num_sites not in (None, len(decided)):
        yield Problem(
            path,
            f"the partition {sites.partition.kind} makes {len(decided)} sites: leave this key out",
        )
    names = scenario.site_names
    yield from _enough(sites.partition, len(names), _num_trainable(scenario, facts))
    yield from _named(scenario, names)
    training = len(names) - len(set(sites.holdout_sites))
    if isinstance(scenario.cohort, FixedSize | Cyclic) and scenario.cohort.num_sites > training:
        yield Problem(
            ("cohort", "num_sites"),
            f"a cohort of {scenario.cohort.num_sites} needs as many sites, there are {training}",
        )


def _enough(partition: Partition | Resampled, num_sites: int, available: int) -> Iterator[Problem]:
    """There must be as many examples as the sites need at least."""
    if isinstance(partition, Resampled):
        if (most := partition.bounds[1]) > available:
            yield Problem(
                ("population", "partition", "examples_per_site"),
                f"a site may draw {most} examples, there are {available}: ask for fewer",
            )
        return
    least = partition.min_examples
    if num_sites * least > available:
        yield Problem(
            ("population", "num_sites"),
            f"{num_sites} sites of at least {least} examples need {num_sites * least}, there are "
            f"{available}: ask for fewer sites or a smaller partition.min_examples",
        )


def _splits(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    """Splits that are to be the publisher's must exist."""
    held_out, kind = scenario.population.held_out, scenario.data.source.kind
    official = SPLITS if held_out == "official" else ()
    if isinstance(held_out, HeldOut) and held_out.test == "official":
        official = ("test",)
    if official and not facts.has_official_splits:
        yield Problem(
            ("population", "held_out"),
            f"{kind} has no official splits: give shares, such as {{validation: 0.15, test: 0.2}}",
        )
    elif missing := [split for split in official if split not in facts.num_examples]:
        yield Problem(
            ("population", "held_out"),
            f"the data have no {' and no '.join(missing)} split: give a share for it, such as "
            "{validation: 0.15, test: official}",
        )


def _named(scenario: Scenario, names: Sequence[str]) -> Iterator[Problem]:
    """Every site that the scenario names must exist, and some must be left to train."""
    sites = scenario.population
    if POOLED in names:
        yield Problem(
            ("population", "partition"),
            f"a site is called {POOLED!r}, which means all sites together: rename it in the data",
        )
    lists: list[tuple[Path, tuple[str, ...]]] = [
        (("population", "holdout_sites"), sites.holdout_sites)
    ]
    for index, noise in enumerate(sites.label_noise):
        lists.append((("population", "label_noise", index, "sites"), noise.sites or ()))
        if isinstance(noise, Mistaken):
            yield from mistaken(
                noise.mistakes,
                len(scenario.data.classes),
                ("population", "label_noise", index, "mistakes"),
            )
    for path, asked in lists:
        yield from _repeated(asked, path)
        for index, name in enumerate(asked):
            if name not in names:
                yield Problem((*path, index), no_site(name, names))
    for name in sites.appearance.named_sites() if sites.appearance is not None else ():
        if name not in names:
            yield Problem(("population", "appearance", "sites", name), no_site(name, names))
    if len({name for name in sites.holdout_sites if name in names}) == len(names):
        yield Problem(("population", "holdout_sites"), "leaves no site to train")


def _external(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    """Test sets from elsewhere must look like the data and have its classes."""
    classes = scenario.data.classes
    try:
        names = scenario.site_names
    except DataError:
        return  # told where the sites are
    taken = [POOLED]
    for index, part in enumerate(scenario.evaluation.external):
        path: Path = ("evaluation", "external", index)
        if part.name in names or part.name in taken:
            yield Problem((*path, "name"), f"{part.name!r} is taken; choose another name")
        taken.append(part.name)
        try:
            other = part.source.facts()
        except DataError as error:
            yield Problem((*path, "source"), str(error))
            continue
        if broken := list(_label_map(part.label_map, other, (*path, "label_map"))):
            yield from broken
            continue
        label_map = part.label_map
        num = len(other.class_names if label_map is None else set(label_map.values()))
        if num != len(classes):
            yield Problem(
                (*path, "label_map"),
                f"the task has the classes {', '.join(classes)}, this set has {num}: "
                "give a label_map to those of the task",
            )
        for name, here, there in (
            ("image_size", facts.image_size, other.image_size),
            ("num_channels", facts.num_channels, other.num_channels),
        ):
            if here != there:
                yield Problem((*path, "source"), f"{name} is {there}, but {here} for data.source")


def _client(scenario: Scenario) -> Iterator[Problem]:
    client, num = scenario.client, len(scenario.data.classes)
    weights = getattr(client.objective, "class_weights", None)
    if isinstance(weights, tuple) and len(weights) != num:
        yield Problem(
            ("client", "objective", "class_weights"),
            f"give one weight per class ({num}), got {len(weights)}",
        )
    if client.objective.binary_only and num != 2:
        yield Problem(
            ("client", "objective"),
            f"{client.objective.kind} is for tasks of two classes, this one has {num}",
        )
    if client.schedule.warmup_rounds >= scenario.rounds:
        yield Problem(
            ("client", "schedule", "warmup_rounds"),
            f"must be fewer than the {scenario.rounds} rounds",
        )


def _server(scenario: Scenario) -> Iterator[Problem]:
    strategy = scenario.strategy
    if not isinstance(strategy, FlowerStrategy):
        return
    if strategy.name in UNSUITED:
        yield Problem(
            ("strategy", "name"), f"{strategy.name} does not work here: {UNSUITED[strategy.name]}"
        )
    elif strategy.name not in USABLE:
        yield Problem(
            ("strategy", "name"),
            f"Flower has no strategy {strategy.name!r}, or a scenario cannot use it"
            f"{nearest(strategy.name, USABLE)} (one of {', '.join(USABLE)})",
        )
    for name in sorted(RESERVED & set(strategy.options)):
        yield Problem(
            ("strategy", "options", name),
            "cannot be set here: the scenario's cohort and evaluation decide",
        )
    if scenario.server_optimizer is not None:
        yield Problem(
            ("server_optimizer",),
            "works with fedsim's own strategies; of Flower's, choose one with an optimizer "
            "inside, such as FedAvgM or FedAdam",
        )


def _evaluation(scenario: Scenario) -> Iterator[Problem]:
    evaluation, task = scenario.evaluation, scenario.data.task
    suited = applicable(task)
    for index, name in enumerate(evaluation.metrics):
        if name not in suited:
            why = f"is not for a {task} task" if name in METRICS else "is no metric"
            yield Problem(
                ("evaluation", "metrics", index),
                f"{name!r} {why}{nearest(name, suited)} (one of {', '.join(suited)})",
            )
    yield from _repeated(evaluation.metrics, ("evaluation", "metrics"))
    if evaluation.select_by not in evaluation.metrics:
        yield Problem(
            ("evaluation", "select_by"),
            f"{evaluation.select_by!r} is not among evaluation.metrics"
            f"{nearest(evaluation.select_by, evaluation.metrics)} "
            f"(one of {', '.join(evaluation.metrics)})",
        )


def _repeated(names: Iterable[str], path: Path) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Problem((*path, index), f"{name!r} is listed twice")
        seen.add(name)


def _num_trainable(scenario: Scenario, facts: Facts) -> int:
    """Return how many examples are divided over the sites first, for training and shares of it."""
    held_out, num = scenario.population.held_out, facts.num_examples
    if held_out == "official":
        return num.get("train", 0)
    without_test = isinstance(held_out, HeldOut) and held_out.test == "official"
    return _num_examples(facts) - (num.get("test", 0) if without_test else 0)


def _num_examples(facts: Facts) -> int:
    return sum(facts.num_examples.values())
