"""The privacy section of a scenario, and what such a scenario releases unprotected.

There is one mechanism, one delta and one budget. Every update leaves a site through one mechanism,
and two around the same update would have to be accounted together; what protects labels in bags is
said where the bags are. An epsilon means something at one delta alone, so noise that is calibrated,
a budget that is kept and a figure that is reported all have the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from fedsim.plugins import Part
from fedsim.privacy import Budget
from fedsim.privacy.units import SMALLEST_DELTA
from fedsim.scenario.cohort import Poisson
from fedsim.scenario.families import AnyMechanism
from fedsim.scenario.flower_strategy import FlowerStrategy
from fedsim.scenario.yaml_tree import Path

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.scenario.scenario import Scenario
    from strategies import Strategy


STAYS = "counts, what models say of held-out images, their labels, and the choice of the best round"
"""What strict privacy does not forbid."""


class Privacy(Part):
    """Whose presence is hidden, how, at what price, and what happens when it is spent."""

    mechanism: AnyMechanism
    delta: float = Field(
        ge=SMALLEST_DELTA,
        lt=1,
        description="of every epsilon; below 1 / the units of the largest site, at least "
        "1e-9, below which accountants in double precision err",
    )
    budget: Budget | None = Field(default=None, description="default: spend what the rounds cost")
    strict: bool = Field(
        default=False,
        description="refuse keys that ask for something of training images without noise; sites "
        "keep their training losses to themselves, and reports show no training images. What no "
        f"key asks for stays, listed as released without noise: {STAYS}",
    )


def num_units(scenario: Scenario, population: Population, site: int) -> int:
    """Return how many units of its mechanism's kind a site has; of sites, how many there are."""
    assert scenario.privacy is not None
    match scenario.privacy.mechanism.unit:
        case "site":
            return len(population)
        case "bag":
            return population.num_bags(site, "train") or 0
        case "patient":
            return int(population.patient_numbers(site, "train").max(initial=-1)) + 1
        case _:
            return len(population.held(site)["train"])


@dataclass(frozen=True)
class Unprotected:
    """What is released without noise.

    Args:
        what: it is, for people.
        asked_by: the key that asks for it, None if no key does.
        way_out: how to do without it.
    """

    what: str
    asked_by: Path | None = None
    way_out: str = ""


def trains_alone_privately(scenario: Scenario) -> bool:
    """Return whether a site that trains alone does so with the noise of the privacy section."""
    return scenario.privacy is not None and scenario.privacy.mechanism.clips == "gradients"


def unprotected(scenario: Scenario) -> Iterator[Unprotected]:
    """Yield what a scenario with a privacy section releases beside what its mechanism protects."""
    privacy = scenario.privacy
    if privacy is None:
        return
    mechanism = privacy.mechanism
    if mechanism.unit != "site":
        yield Unprotected("number of training images of each site (public under replace-special)")
        if mechanism.unit == "patient":
            yield Unprotected(
                "number of patients of each site, and of images of each patient (public likewise)"
            )
        if mechanism.unit == "bag":
            yield Unprotected(
                "which images of each site share a bag, and so the number and sizes of its bags "
                "(public likewise)"
            )
    elif _weighted(scenario.strategy):
        yield Unprotected(
            "number of training images of each site, by which updates are weighted",
            ("strategy",),
            "use one whose weights are uniform",
        )
    else:
        yield Unprotected(
            "number of training images of each site, in its every answer (weights do without)"
        )
    if (weights := getattr(scenario.model, "weights", None)) is not None:
        yield Unprotected(
            f"starting weights {weights.name}, taken to be public: of images that they were "
            "learned from, no epsilon here holds"
        )
    if not privacy.strict:
        yield Unprotected("mean training loss of each site in each round")
    if scenario.evaluation.loss_decomposition:
        yield Unprotected(
            "losses of local and global models on training images (loss decomposition)",
            ("evaluation", "loss_decomposition"),
            "set it to false",
        )
    alone = ("local",) if trains_alone_privately(scenario) else ()
    if alone and "local" in scenario.baselines:
        yield Unprotected(
            "each site alone (yardstick), with the same mechanism and for the same price: what it "
            "could release in place of its part in the federation, not beside it",
            ("baselines",),
            "leave this key out",
        )
    if set(scenario.baselines) - set(alone):
        yield Unprotected(
            "yardsticks, trained without privacy: no part of what sites would release",
            ("baselines",),
            "leave this key out",
        )
    whose = (
        "of images that belong to the hospital that the noise hides, and are not hidden"
        if mechanism.unit == "site"
        else "of images that nobody trains on"
    )
    yield Unprotected(
        "what models say of validation and test images, the true labels of these, and the choice "
        f"of the best round by both: {whose}"
    )
    if scenario.on_client_failure == "abort":
        yield Unprotected("that a site fails to train, if one does: the run stops there")
    else:
        yield Unprotected("that a site fails to train, if one does: this folder names it")
    if mechanism.released_by == "server" and isinstance(scenario.cohort, Poisson):
        yield Unprotected(
            "who takes part in each round, which this folder tells: epsilon is for those who do "
            "not know"
        )
    shown = "label tables" if privacy.strict else "label tables, sample images"
    yield Unprotected(f"the simulator's own view of the sites: {shown}")


def beside_labels(scenario: Scenario) -> Iterator[str]:
    """Yield what a run tells of true labels where sites protect theirs, beside what they tell."""
    parts = scenario.population.supervision
    if not any(getattr(part, "label_privacy", None) for part in parts):
        return
    if scenario.population.held_out != "official":
        yield (
            "who is in training, validation and test: shares are held out class by class, of true "
            "labels"
        )
    yield (
        "the simulator's own view of the sites: true labels of test images, tables of true "
        "classes, and how many numbers a truncation moved, and by how much"
    )


def _weighted(strategy: Strategy | FlowerStrategy) -> bool:
    """Return whether sites count as their examples do."""
    if isinstance(strategy, FlowerStrategy):
        return True
    return getattr(strategy, "weights", "uniform") != "uniform"
