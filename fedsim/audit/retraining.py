"""The run again, on a part of its training images, in a folder that is gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from fedsim.audit.subject import Subject
from fedsim.data.population import Indices
from fedsim.execution import execute, own
from fedsim.privacy.ledger import Entry, entries
from fedsim.records import RunFolder
from fedsim.scenario import Scenario, from_data


@dataclass(frozen=True)
class Retrained:
    """What came of it.

    Args:
        model: the final one.
        ledger: what was released.
    """

    model: Mapping[str, Tensor]
    ledger: list[Entry]


def retrain(
    subject: Subject, train: Sequence[Indices], tell: Callable[[int], None] = lambda round: None
) -> Retrained:
    """Return the model that the run's scenario makes of other training images.

    Args:
        subject: the run.
        train: positions of the training images of each site.
        tell: called after every round.

    Raises:
        RunError: if the training fails.
    """
    population = replace(
        subject.population,
        indices=[
            {**held, "train": positions}
            for held, positions in zip(subject.population.indices, train, strict=True)
        ],
        kept={},
    )
    scenario = _without_extras(subject.scenario)
    with TemporaryDirectory(prefix="fedsim-audit-") as place:
        folder = RunFolder.create(
            Path(place) / "run",
            scenario=scenario.resolved(),
            digest=scenario.digest,
            population=subject.record.population,
            keep_every=None,
        )
        devices = [subject.device]
        record = execute(
            scenario,
            population,
            folder,
            devices,
            partial(own, devices, 1),
            lambda progress: tell(progress.round),
        )
        return Retrained(record.model(record.selection.final_round), entries(record.ledger))


def _without_extras(scenario: Scenario) -> Scenario:
    """Return a scenario with the same training and as little evaluation as there can be."""
    data: dict[str, Any] = scenario.resolved()
    data["baselines"] = []
    data["evaluation"] |= {
        "every": scenario.rounds,
        "num_resamples": 0,
        "loss_decomposition": False,
    }
    return from_data(data, scenario.name)
