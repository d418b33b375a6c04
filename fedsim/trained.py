"""A trained network with all that is needed to show it a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter

from clients.batch import Batch
from clients.evaluation import predict
from clients.metrics import Task
from clients.targets import CLASSES, Quantity
from fedsim.data.normalisation import Normalisation
from fedsim.data.pictures import Fit
from fedsim.engines.inline import repeatable
from fedsim.errors import DataError, InputError
from fedsim.models import weights
from fedsim.records import read
from fedsim.scenario.families import AnyModel, AnyNormalisation
from fedsim.seeds import Streams
from fedsim.simulate import recorded_scenario

if TYPE_CHECKING:
    from torch import nn

    from fedsim.scenario.scenario import Data

Which = Literal["best", "final"]
DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"
FORMAT = 1
"""Version of the description."""


class _Description(BaseModel):
    """What is needed of an export's description, within bounds."""

    format: Literal[1]
    which: Which
    model: AnyModel
    num_channels: int = Field(ge=1, le=16)
    image_size: int = Field(ge=1, le=4096)
    class_names: list[str] = Field(min_length=1, max_length=10_000)
    task: Task
    normalisation: AnyNormalisation
    fit: Fit
    sha256: str


@dataclass(frozen=True)
class Trained:
    """A network and how images come to it.

    Args:
        network: images (example, channel, height, width), normalised -> logits (example, class), or
            of a regression one output (example, 1); on the CPU, in evaluation mode.
        description: plain data: format, model (the scenario's section), num_channels, image_size,
            class_names, task, positive_class, target (of a regression: name, unit, low, high; else
            None), normalisation, fit, and where it is from (scenario, digest, seed, which, round).
    """

    network: nn.Module
    description: dict[str, Any]

    @property
    def normalisation(self) -> Normalisation:
        """How pixels become what the network sees."""
        found: Normalisation = TypeAdapter(AnyNormalisation).validate_python(
            self.description["normalisation"]
        )
        return found

    @property
    def fit(self) -> Fit:
        """How a picture that is not square becomes so."""
        found: Fit = self.description["fit"]
        return found

    def probabilities(
        self, images: NDArray[np.uint8], device: torch.device | None = None
    ) -> NDArray[np.float32]:
        """Return P(class | image), (example, class), of a network that tells classes apart.

        Args:
            images: (example, channel, height, width), uint8, at the network's size.
            device: where to compute; the CPU by default.
        """
        found: NDArray[np.float32] = self._scores(images, device).exp().cpu().numpy()
        return found

    def numbers(
        self, images: NDArray[np.uint8], device: torch.device | None = None
    ) -> NDArray[np.float32]:
        """Return the predicted numbers of a regression, (example,); the rest as `probabilities`."""
        found: NDArray[np.float32] = self._scores(images, device).squeeze(1).cpu().numpy()
        return found

    def _scores(self, images: NDArray[np.uint8], device: torch.device | None) -> torch.Tensor:
        device, target = device or torch.device("cpu"), self.description.get("target")
        shown = torch.from_numpy(self.normalisation.apply(images)).to(device)
        labels = torch.zeros(len(images), dtype=torch.int64, device=device)
        with repeatable():
            return predict(
                self.network.to(device),
                Batch(shown, labels),
                Quantity(target["low"], target["high"]) if target else CLASSES,
            )


def load(folder: str | Path, which: Which | None = None) -> Trained:
    """Return the trained network of a run folder or of an export.

    Args:
        folder: of either.
        which: the best round on validation images, which is the default, or the final one; an
            export holds one alone.

    Raises:
        InputError: if the folder is neither, is damaged, or is an export of another round.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION).is_file():
        return _of_export(folder, which)
    if not (folder / "run.json").is_file():
        raise InputError(
            f"{folder}: is neither a run folder (it has no run.json) nor an export "
            f"(it has no {DESCRIPTION})"
        )
    return _of_run(folder, which or "best")


def load_model(folder: str | Path, which: Which = "best") -> nn.Module:
    """Return a trained network of a run, on the CPU and in evaluation mode.

    Args:
        folder: of the run.
        which: the round with the best selecting metric on validation images, or the last one.

    Raises:
        InputError: if the folder is none or holds no such checkpoint.
    """
    record = read(Path(folder))
    scenario, selection = recorded_scenario(record), record.selection
    keeps = scenario.client.personalisation
    if keeps is not None and keeps.keeps_parameters:
        raise InputError(
            f"{folder}: has no global model to load: with {keeps.kind} every site keeps a part of "
            "its own"
        )
    round = selection.best_round if which == "best" else selection.final_round
    images = record.population["images"]
    with Streams(scenario.seed).torch_default("initial_model"):
        network = scenario.model.build(
            images["num_channels"],
            _num_outputs(scenario.data.task, record.population["class_names"]),
            images["image_size"],
        )
    try:
        network.load_state_dict(record.model(round))
    except RuntimeError as error:
        raise InputError(
            f"{record.folder}: the checkpoint of round {round} does not fit the network of "
            f"scenario.yaml: {error}"
        ) from error
    return network.eval()


def _of_run(folder: Path, which: Which) -> Trained:
    record = read(folder)
    scenario, selection = recorded_scenario(record), record.selection
    data = scenario.data
    return Trained(
        load_model(folder, which),
        {
            "format": FORMAT,
            "model": scenario.model.model_dump(mode="json", exclude={"weights"}),
            **{key: record.population["images"][key] for key in ("num_channels", "image_size")},
            "class_names": record.population["class_names"],
            "task": data.task,
            "positive_class": data.positive_class if data.task == "binary" else None,
            "target": _target(data, record.population),
            "normalisation": data.normalisation.model_dump(mode="json"),
            "fit": getattr(data.source, "fit", "stretch"),
            "scenario": scenario.name,
            "digest": scenario.digest,
            "seed": scenario.seed,
            "which": which,
            "round": selection.best_round if which == "best" else selection.final_round,
        },
    )


def _of_export(folder: Path, which: Which | None) -> Trained:
    file = folder / DESCRIPTION
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        known = _Description.model_validate(description)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: is damaged: {error}") from error
    if which not in (None, known.which):
        raise InputError(
            f"{folder}: is an export of the {known.which} round; for the {which} one name "
            "the run folder, or export it"
        )
    try:
        if weights.sha256(folder / WEIGHTS) != known.sha256:
            raise DataError("it does not have the checksum that model.json states")
        num_outputs = _num_outputs(known.task, known.class_names)
        network = known.model.build(known.num_channels, num_outputs, known.image_size)
        network.load_state_dict(weights.load(folder / WEIGHTS))
    except (DataError, RuntimeError) as error:
        raise InputError(f"{folder / WEIGHTS}: cannot be used: {error}") from error
    return Trained(network.eval(), description)


def _num_outputs(task: str, class_names: Sequence[str]) -> int:
    return 1 if task == "regression" else len(class_names)


def _target(data: Data, population: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what is known of the number that a network predicts, None of classes."""
    if not isinstance(data.predicted, Quantity):
        return None
    return {"name": data.target, "unit": population["target_unit"], **asdict(data.predicted)}


def as_columns(class_names: Iterable[str]) -> list[str]:
    """Return the headings of a table of predictions; of numbers, without class names.

    >>> as_columns(["normal", "pneumonia"])
    ['path', 'predicted', 'p(normal)', 'p(pneumonia)']
    """
    return ["path", "predicted", *(f"p({name})" for name in class_names)]
