"""What a model says of images that no site trains on, as the server of a simulation may see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from fedsim.data.source import HELD_OUT
from fedsim.flower.workplace import Workplace

if TYPE_CHECKING:
    from fedsim.records.read import Predicted

Model = Mapping[str, Tensor]


def held_out(workplace: Workplace, model: Model) -> dict[str, dict[str, Predicted]]:
    """Return what a model says of all validation and test images: split -> holder -> that."""
    population = workplace.population
    found: dict[str, dict[str, Predicted]] = {}
    for split in HELD_OUT:
        groups = [workplace.examples(holder, split) for holder in population.holders]
        found[split] = {
            population.name(holder): (scores.cpu().numpy(), population.truth(holder, split))
            for holder, scores in zip(
                population.holders, workplace.network.predict(model, *groups), strict=True
            )
        }
    return found


def external(workplace: Workplace, model: Model) -> dict[str, Predicted]:
    """Return what a model says of each external set."""
    predicted = workplace.network.predict(model, *workplace.external)
    return {
        part.name: (scores.cpu().numpy(), part.truth)
        for part, scores in zip(workplace.population.external, predicted, strict=True)
    }


def everywhere(workplace: Workplace, model: Model) -> dict[str, dict[str, Predicted]]:
    """Return what a model says of all held-out images and of the external sets."""
    found = held_out(workplace, model)
    if abroad := external(workplace, model):
        found["external"] = abroad
    return found
