"""An encoder from labels of sets, then a head from a few labels: the two stages of docs/bags.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fedsim
from fedsim.records.checkpoint import load, path_of
from fedsim.scenario import Scenario, open_population

Make = Callable[..., Scenario]
CNN = {"kind": "small_cnn", "widths": [8, 16]}
DATA = {
    "source": {"kind": "synthetic", "anatomy": "fundus", "image_size": 16, "num_examples": 240},
    "task": "ordinal",
}
CLIENT = {"epochs": 1, "batch_size": 20, "optimizer": {"kind": "sgd", "learning_rate": 0.05}}


def stage(make: Make, supervision: dict[str, Any], **more: Any) -> Scenario:
    return make(
        **{
            "data": DATA,
            "rounds": 2,
            "population": {"num_sites": 2, "supervision": [supervision]},
            "client": CLIENT,
            "model": CNN,
            **more,
        }
    )


@pytest.mark.slow
def test_a_head_of_few_labels_stands_on_an_encoder_of_sets(tiny: Make, tmp_path: Path) -> None:
    objective = {"kind": "bag", "criterion": "logit_cross_entropy"}
    evaluation = {"metrics": ["auroc", "bag_loss"], "loss_decomposition": False}
    sets = stage(
        tiny,
        {"kind": "bags", "bag_size": 5, "response": "highest"},
        client={**CLIENT, "objective": objective},
        evaluation={**evaluation, "select_by": "bag_loss"},
    )
    population = open_population(sets)
    (bags,) = population.bags(0, "train")
    assert set(np.unique(bags.responses).tolist()) == {0.0, 1.0}  # one label of each set
    first = fedsim.run(sets, out=tmp_path, name="sets", device="cpu")
    weights = fedsim.export(first.folder, out=tmp_path / "export") / "model.safetensors"

    few = stage(
        tiny,
        {"kind": "labels", "per_class": 5},
        model={**CNN, "weights": str(weights), "frozen": ["[0-9].*"]},
        evaluation={"loss_decomposition": False},
    )
    assert open_population(few).class_counts(0, "train").tolist() == [5] * 5
    second = fedsim.run(few, out=tmp_path, name="few", device="cpu")
    learnt, end = load_file(weights), load(path_of(second.folder, 2))["model"]
    moved = {name for name in end if not torch.equal(end[name], learnt[name])}
    head = list(end)[-1].rsplit(".", 1)[0]
    assert moved == {name for name in end if name.startswith(f"{head}.")}
    assert moved
