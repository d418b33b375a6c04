"""From a scenario to its sites, and the rules that only the labels can decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from clients.metrics import evaluate
from fedsim.data.population import ExternalSet, Pooled, Population, form
from fedsim.data.source import HELD_OUT, PATIENT
from fedsim.scenario.messages import Problem, UnmetError
from fedsim.scenario.scenario import External, HeldOut, Scenario
from fedsim.seeds import Streams


def open_population(scenario: Scenario) -> Population:
    """Open the source and give every example to a site; images are made later.

    Raises:
        DataError: if the data are missing or damaged, or too few for the sites.
        UnmetError: if the sites cannot do what the scenario asks of them.
    """
    streams, sites = Streams(scenario.seed), scenario.population
    population = form(
        scenario.data.source.open(streams),
        class_names=scenario.data.classes,
        label_map=scenario.data.label_map,
        names=scenario.site_names,
        partition=sites.partition,
        shares=sites.held_out.shares if isinstance(sites.held_out, HeldOut) else {},
        normalisation=scenario.data.normalisation,
        streams=streams,
        appearance=sites.appearance,
        label_noise=sites.label_noise,
        held_out_sites=sites.holdout_sites,
    )
    return completed(scenario, population)


def completed(scenario: Scenario, population: Population) -> Population:
    """Return the sites with the test sets from elsewhere, if they can do what is asked of them.

    Raises:
        DataError: if such a test set is missing or damaged.
        UnmetError: if the sites cannot do what the scenario asks of them.
    """
    elsewhere = tuple(_external(scenario, part) for part in scenario.evaluation.external)
    population = replace(population, external=(*population.external, *elsewhere))
    problems = [*_training(scenario, population), *_metrics(scenario, population)]
    if problems:
        raise UnmetError(scenario.name, problems)
    return population


def _external(scenario: Scenario, part: External) -> ExternalSet:
    """Open a test set from elsewhere."""
    pooled = Pooled.of(part.source.open(Streams(scenario.seed)), part.label_map)
    return ExternalSet(
        part.name,
        pooled.labels,
        pooled.columns.get(PATIENT),
        pooled.pixels,
        pooled.pixels,
        scenario.data.normalisation,
    )


def _training(scenario: Scenario, population: Population) -> Iterator[Problem]:
    """Every site must be able to take a step."""
    client = scenario.client
    sizes = {
        name: int(population.class_counts(site, "train").sum())
        for site, name in enumerate(population.names)
    }
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


def _metrics(scenario: Scenario, population: Population) -> Iterator[Problem]:
    """Every metric must have a value on the held-out images of all sites together."""
    for split in HELD_OUT:
        counts = np.sum([population.class_counts(s, split) for s in range(len(population))], axis=0)
        if not counts.any():
            yield Problem(("population", "held_out"), f"no site has a {split} image: hold out more")
        if counts.all() or not counts.any():
            continue  # without evaluating anything: that would load scikit-learn
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
