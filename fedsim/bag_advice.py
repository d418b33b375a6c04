"""Which bag size the theory advises for a scenario, from levels that its user assumes.

Nothing of any label is looked at: sizes of sites and bags, and what the scenario says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from clients.objectives import Bag, Instance, InterpolatedBag
from fedsim.bag_theory.advice import Advice, Departure, bag_size_advice
from fedsim.bag_theory.bag_size import optimal_bag_size
from fedsim.data.bag_draws import Random
from fedsim.data.population import Population
from fedsim.data.supervised import sites_of
from fedsim.data.supervision import InBags
from fedsim.errors import InputError
from fedsim.models import Mlp
from fedsim.privacy.label import of_counts, of_sums
from fedsim.scenario import Scenario


@dataclass(frozen=True)
class Assumed:
    """What the user of a scenario assumes of the responses.

    Args:
        signal: variance that a linear model explains.
        noise: variance that it does not.
        num_dimensions: of its features; None for all pixels.

    Raises:
        InputError: if a level is negative or not finite.
    """

    signal: float
    noise: float
    num_dimensions: int | None = None

    def __post_init__(self) -> None:
        if not all(0 <= level < inf for level in (self.signal, self.noise)):
            raise InputError(
                "--assume-signal and --assume-noise: signal and noise must be finite and not "
                f"negative, got {self.signal:g} and {self.noise:g}"
            )


def advise(scenario: Scenario, population: Population, assumed: Assumed) -> dict[int, Advice]:
    """Return for every entry of `population.supervision` with bags what the theory says.

    Args:
        scenario: with bags.
        population: its sites.
        assumed: of the responses.
    """
    entries = scenario.population.supervision
    by_site = sites_of(entries, population.names)
    found = {}
    for number, entry in enumerate(entries):
        sites = [site for site, part in by_site.items() if part is entry]
        if isinstance(entry, InBags) and sites:
            found[number] = _advice(scenario, population, entry, sites, assumed)
    return found


def _advice(
    scenario: Scenario, population: Population, entry: InBags, sites: list[int], assumed: Assumed
) -> Advice:
    num_examples = sum(len(population.indices[site]["train"]) for site in sites)
    num_bags = sum(population.num_bags(site, "train") or 0 for site in sites)
    channels, height, width = scenario.data.source.facts().image_shape
    return bag_size_advice(
        num_examples=num_examples,
        num_dimensions=assumed.num_dimensions or channels * height * width,
        signal=assumed.signal,
        noise=assumed.noise,
        own_size=max(1, round(num_examples / num_bags)) if num_bags else 1,
        rho=_rho(scenario.client.objective.model_dump()),
        sum_noise=sum_noise(entry, len(population.class_names)),
        departures=list(_departures(scenario, entry, len(population))),
    )


def sum_noise(entry: InBags, num_classes: int) -> float:
    """Return the variance of what protects labels, on the sum of a bag, in squared units."""
    mechanism = entry.label_privacy
    if mechanism is None:
        return 0.0
    sensitivity = (
        of_counts(num_classes, mechanism.relation)
        if entry.truncation is None
        else of_sums(entry.truncation, mechanism.relation)
    )
    return mechanism.variance(mechanism.scale(sensitivity))


def best_size(
    entry: InBags,
    objective: Mapping[str, Any],
    sizes: Iterable[int],
    *,
    num_classes: int,
    num_examples: int,
    num_pixels: int,
    assumed: Assumed,
) -> int | None:
    """Return which of some bag sizes has the least risk by theory, None where it says nothing.

    Args:
        entry: of `population.supervision`, for its noise.
        objective: as plain data, for its rho; where it has none, the best is taken for each size.
        sizes: to choose from.
        num_classes: of the task.
        num_examples: n, in bags, of all sites together.
        num_pixels: dimensions where none are assumed.
        assumed: of the responses.
    """
    ratio = num_examples / (assumed.num_dimensions or num_pixels)
    choices = [size for size in sizes if size <= num_examples]
    if ratio <= 1 or not choices:
        return None
    return optimal_bag_size(
        choices,
        _rho(objective),
        ratio=ratio,
        signal=assumed.signal,
        noise=assumed.noise,
        sum_noise=sum_noise(entry, num_classes),
    ).bag_size


def _rho(objective: Mapping[str, Any]) -> float | None:
    """Return rho of an objective, as plain data; None where it has none, or chooses it."""
    rho = {"bag": 0.0, "instance": 1.0}.get(objective["kind"], objective.get("rho"))
    return None if rho == "auto" else rho


def _departures(scenario: Scenario, entry: InBags, num_sites: int) -> Iterator[Departure]:
    """Yield what of the scenario is not as the theory has it."""
    objective, model = scenario.client.objective, scenario.model
    if not (isinstance(model, Mlp) and not model.widths):
        yield "network"
    if (
        not isinstance(objective, Bag | Instance | InterpolatedBag)
        or objective.criterion != "squared"
    ):
        yield "loss"
    if scenario.data.task != "regression":
        yield "classes"
    if not isinstance(entry.draw, Random):
        yield "draw"
    if entry.num_draws > 1:
        yield "redrawn"
    if entry.truncation is not None or (entry.label_privacy is not None and entry.project):
        yield "clipped"
    if num_sites > 1:
        yield "sites"
