"""From a scenario to its sites, and the rules that only the labels can decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from clients.metrics import METRICS, evaluate
from clients.objectives import CountLikelihood
from fedsim.data import divided_sites, drawn_sites
from fedsim.data.pooled import Pooled
from fedsim.data.population import ExternalSet, Indices, Population
from fedsim.data.resampled import Resampled
from fedsim.data.source import HELD_OUT, PATIENT, Split
from fedsim.data.supervised import KNOWN, sites_of, supervise
from fedsim.fleet.assignment import assign
from fedsim.privacy.units import UNITS
from fedsim.scenario.messages import Problem, UnmetError
from fedsim.scenario.privacy import num_units
from fedsim.scenario.scenario import External, HeldOut, Scenario
from fedsim.seeds import Streams


def open_population(scenario: Scenario) -> Population:
    """Open the source and say who holds which example; images are made later.

    Raises:
        DataError: if the data are missing or damaged, or too few for the sites.
        UnmetError: if the sites cannot do what the scenario asks of them.
    """
    return completed(scenario, _formed(scenario))


def completed(scenario: Scenario, population: Population) -> Population:
    """Return the sites with the test sets from elsewhere, if they can do what is asked of them.

    Raises:
        DataError: if such a test set is missing or damaged.
        UnmetError: if the sites cannot do what the scenario asks of them.
    """
    elsewhere = tuple(_external(scenario, part) for part in scenario.evaluation.external)
    population = replace(population, external=(*population.external, *elsewhere))
    problems = [
        *_training(scenario, population),
        *_batches_of_devices(scenario, population),
        *_metrics(scenario, population),
        *_bags(scenario, population),
        *_delta(scenario, population),
        *_label_deltas(scenario, population),
        *_patients(scenario, population),
    ]
    if problems:
        raise UnmetError(scenario.name, problems)
    return population


def _formed(scenario: Scenario) -> Population:
    streams, sites, partition = (
        Streams(scenario.seed),
        scenario.population,
        scenario.population.partition,
    )
    asked: dict[str, Any] = {
        "class_names": scenario.data.classes,
        "label_map": scenario.data.label_map,
        "names": scenario.site_names,
        "shares": sites.held_out.shares if isinstance(sites.held_out, HeldOut) else {},
        "normalisation": scenario.data.normalisation,
        "streams": streams,
        "appearance": sites.appearance,
        "target": scenario.data.target,
        "predicted": scenario.data.predicted,
    }
    dataset = scenario.data.source.open(streams)
    if isinstance(partition, Resampled):
        return drawn_sites.form(dataset, rule=partition, **asked)
    population = divided_sites.form(
        dataset,
        partition=partition,
        label_noise=sites.label_noise,
        held_out_sites=sites.holdout_sites,
        **asked,
    )
    return supervise(population, sites.supervision, streams)


def _external(scenario: Scenario, part: External) -> ExternalSet:
    """Open a test set from elsewhere."""
    pooled = Pooled.of(
        part.source.open(Streams(scenario.seed)), part.label_map, scenario.data.target
    )
    return ExternalSet(
        part.name,
        pooled.labels,
        pooled.columns.get(PATIENT),
        pooled.pixels,
        pooled.pixels,
        scenario.data.normalisation,
        pooled.targets,
    )


def _training(scenario: Scenario, population: Population) -> Iterator[Problem]:
    """Every site must be able to take a step; of drawn ones the scenario alone says so."""
    if population.server is not None:
        return
    client = scenario.client
    sizes = dict(zip(population.names, population.sizes(), strict=True))
    smallest = min(sizes, key=lambda name: sizes[name])
    if not sizes[smallest]:
        idle = [name for name, size in sizes.items() if not size]
        yield Problem(
            ("population", "partition", "min_examples"),
            f"{', '.join(idle)} would have no training example: use a larger minimum, fewer "
            "sites, more examples or smaller shares held out",
        )
    elif client.drop_last and client.batch_size > sizes[smallest]:
        yield Problem(
            ("client", "batch_size"),
            f"with drop_last, {smallest} with its {sizes[smallest]} training examples never fills "
            f"a batch of {client.batch_size}: use at most {sizes[smallest]}, or drop_last: false",
        )


def _batches_of_devices(scenario: Scenario, population: Population) -> Iterator[Problem]:
    """With drop_last, a site must also fill the batches that its device asks for."""
    groups = scenario.population.devices
    if not scenario.client.drop_last or all(group.batch_size is None for group in groups):
        return
    group_of = assign(groups, population.names, Streams(scenario.seed))
    for site, number in enumerate(group_of):
        size, wanted = len(population.indices[site]["train"]), groups[number].batch_size
        if wanted is not None and wanted > size:
            yield Problem(
                ("population", "devices", int(number), "batch_size"),
                f"with client.drop_last, {population.names[site]} with its {size} training "
                f"examples never fills a batch of {wanted}: use at most {size}, or drop_last: "
                "false",
            )


def _delta(scenario: Scenario, population: Population) -> Iterator[Problem]:
    """Delta must be below the chance that a mechanism publishes one unit at random."""
    privacy = scenario.privacy
    if privacy is None:
        return
    unit = privacy.mechanism.unit
    num = max(num_units(scenario, population, site) for site in range(len(population)))
    whose = "there are" if unit == "site" else "a site has"
    if num and privacy.delta >= 1 / num:
        yield Problem(("privacy", "delta"), _too_large(whose, num, f"{UNITS[unit]}s"))


def _label_deltas(scenario: Scenario, population: Population) -> Iterator[Problem]:
    """The delta of noise on labels must be below the chance of one label published at random."""
    told = sites_of(scenario.population.supervision, population.names)
    for number, part in enumerate(scenario.population.supervision):
        delta = getattr(getattr(part, "label_privacy", None), "delta", 0.0)
        num = max(
            (
                sum(len(population.held(site)[split]) for split in KNOWN)
                for site, theirs in told.items()
                if theirs is part
            ),
            default=0,
        )
        if num and delta >= 1 / num:
            yield Problem(
                ("population", "supervision", number, "label_privacy", "delta"),
                _too_large("a site has", num, "labels"),
            )


def _too_large(whose: str, num: int, units: str) -> str:
    return (
        f"{whose} {num} {units}, and at a delta of 1 / {num} = {1 / num:.2g} or more, publishing "
        f"one of them at random would count as private: use less, such as {0.1 / num:.0e}"
    )


def _patients(scenario: Scenario, population: Population) -> Iterator[Problem]:
    """Where patients are hidden, every training image must be known to be somebody's."""
    if scenario.privacy is None or scenario.privacy.mechanism.unit != "patient":
        return
    nobodys = sum(
        int((known == "").sum())
        for site in range(len(population))
        if (known := population.patients(site, "train")) is not None
    )
    if nobodys:
        yield Problem(
            ("privacy", "mechanism", "kind"),
            f"{nobodys} training images do not say whose they are, and a patient with several of "
            "them would not be hidden: name their patients, each by a name of its own if they are "
            "different people, or leave these images out",
        )


def _metrics(scenario: Scenario, population: Population) -> Iterator[Problem]:
    """Every metric must have a value on all held-out images together."""
    for split in HELD_OUT:
        holders = [h for h in population.holders if population.judges(h, split)]
        if not holders:
            continue
        counts = np.sum([population.class_counts(h, split) for h in holders], axis=0)
        if not counts.any():
            yield Problem(("population", "held_out"), f"there is no {split} image: hold out more")
        elif scenario.data.task == "regression":
            yield from _of_numbers(scenario, population, split)
        elif not counts.all():  # else without evaluating anything: that would load scikit-learn
            yield from _of_classes(scenario, population, split, counts)


def _of_classes(
    scenario: Scenario, population: Population, split: Split, counts: Indices
) -> Iterator[Problem]:
    labels = np.repeat(np.arange(len(counts)), counts)
    certain = np.where(labels[:, None] == np.arange(len(counts)), 0.0, -10.0)
    data, names = scenario.data, scenario.evaluation.metrics
    values = evaluate(certain, labels, names, data.task, data.positive_class)
    if undetermined := [name for name, value in values.items() if value.value is None]:
        absent = [n for n, c in zip(population.class_names, counts, strict=True) if not c]
        yield Problem(
            ("evaluation", "metrics"),
            f"{', '.join(undetermined)} cannot be computed: none of the {len(labels)} {split} "
            f"images shows {' or '.join(absent)}; hold out more, or leave the metric out",
        )


def _of_numbers(scenario: Scenario, population: Population, split: Split) -> Iterator[Problem]:
    if population.targets is None:
        return  # they are at the sites
    tests = population.hidden_tests() if split == "test" else {}
    truth = np.concatenate(
        [
            tests.get(population.name(holder), population.truth(holder, split))
            for holder in population.holders
            if population.judges(holder, split)
        ]
    )
    names = [name for name in scenario.evaluation.metrics if METRICS[name].undetermined_where]
    if names and not np.ptp(truth):
        yield Problem(
            ("evaluation", "metrics"),
            f"{', '.join(names)} cannot be computed: {scenario.data.target} is {truth[0]:g} in all "
            f"of the {len(truth)} {split} images; hold out more, or leave the metric out",
        )


def _bags(scenario: Scenario, population: Population) -> Iterator[Problem]:
    """The exact likelihood of counts has a grid, whose size bounds that of bags."""
    if not isinstance(scenario.client.objective, CountLikelihood):
        return
    most = CountLikelihood.largest_bag(len(population.class_names))
    for site in population.knowledge:
        largest = max((int(b.sizes.max()) for b in population.bags(site, "train")), default=0)
        if largest > most:
            yield Problem(
                ("client", "objective", "kind"),
                f"count_likelihood takes bags of at most {most} examples for "
                f"{len(population.class_names)} classes, and {population.names[site]} has one of "
                f"{largest}: use smaller bags, or another objective",
            )
