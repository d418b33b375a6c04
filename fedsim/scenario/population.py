"""From a scenario to its sites, and the rules that only the labels can decide."""

from __future__ import annotations

from clients.metrics import METRICS
from fedsim.data.population import Population, form
from fedsim.errors import ScenarioError
from fedsim.scenario.scenario import HeldOut, Scenario
from fedsim.seeds import Streams


def open_population(scenario: Scenario) -> Population:
    """Open the source and give every example to a site; images are made later.

    Raises:
        DataError: if the data are missing or damaged, or too few for the sites.
        ScenarioError: if the sites cannot do what the scenario asks of them.
    """
    streams, sites = Streams(scenario.seed), scenario.population
    held_out = sites.held_out
    population = form(
        scenario.data.source.open(streams),
        class_names=scenario.data.classes,
        label_map=scenario.data.label_map,
        num_sites=sites.num_sites,
        partition=sites.partition,
        held_out={"validation": held_out.validation, "test": held_out.test}
        if isinstance(held_out, HeldOut)
        else None,
        appearance=sites.appearance,
        normalisation=scenario.data.normalisation,
        streams=streams,
    )
    _check(scenario, population)
    return population


def _check(scenario: Scenario, population: Population) -> None:
    sizes = {
        name: int(population.class_counts(site, "train").sum())
        for site, name in enumerate(population.names)
    }
    smallest = min(sizes, key=lambda name: sizes[name])
    if not sizes[smallest]:
        raise ScenarioError(
            f"population: {smallest} has no training example; "
            "use fewer sites, more examples or a larger partition.min_examples"
        )
    if scenario.client.drop_last and scenario.client.batch_size > sizes[smallest]:
        raise ScenarioError(
            f"client.batch_size: with drop_last, {smallest} with its {sizes[smallest]} training "
            f"examples never fills a batch of {scenario.client.batch_size}; use at most "
            f"{sizes[smallest]}, or drop_last: false"
        )
    for split in ("validation", "test"):
        counts = sum(population.class_counts(site, split) for site in range(len(population)))  # type: ignore[arg-type]
        present = int((counts > 0).sum())
        if not present:
            raise ScenarioError(f"population.held_out: there is no {split} example at any site")
        needy = [m for m in scenario.evaluation.metrics if METRICS[m].needs_two_classes]
        if present < 2 and needy:
            raise ScenarioError(
                f"evaluation.metrics: {', '.join(needy)} need two classes, but all {split} "
                "images together show one; hold out more"
            )
