"""Which trial is chosen: by validation images alone, the earlier of equal ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedsim.records import RunRecord
from fedsim.scenario import from_data
from fedsim.simulate import run
from fedsim.study.cells import PlannedCell
from fedsim.study.choice import choose, validation_value


@pytest.fixture
def cells(base: dict[str, Any]) -> list[PlannedCell]:
    scenario = from_data(base, "base")
    return [
        PlannedCell("mean", "base", seed, "trial", trial, {}, scenario)
        for trial in range(3)
        for seed in (1000, 1001)
    ]


@pytest.mark.parametrize(
    ("values", "metric", "trial"),
    [
        ([0.5, 0.5, 0.9, 0.3, 0.5, 0.6], "auroc", 1),  # means 0.5, 0.6, 0.55
        ([0.5, 0.5, 0.9, 0.3, 0.5, 0.6], "loss", 0),
        ([0.5, 0.7, 0.7, 0.5, 0.6, 0.6], "auroc", 0),  # equal: the earlier
        ([0.5, 0.7, 0.7, 0.5, 0.6, 0.6], "loss", 0),
        ([0.5, 0.5, 0.9, None, 0.6, 0.6], "auroc", 2),  # a seed failed: the trial failed
        ([None, None, 0.9, None, 0.6, None], "auroc", None),
    ],
)
def test_the_best_mean_over_seeds_wins(
    cells: list[PlannedCell], values: list[float | None], metric: str, trial: int | None
) -> None:
    by_name = {cell.name: value for cell, value in zip(cells, values, strict=True)}
    assert choose(cells, by_name, metric) == trial


@pytest.fixture(scope="module")
def record(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    scenario = from_data({**base, "rounds": 3}, "base")
    return run(scenario, out=tmp_path_factory.mktemp("runs"), device="cpu")


def changed(record: RunRecord, split: str, site: str) -> RunRecord:
    metrics = [
        {**row, "value": 9.0} if (row["split"], row["site"]) == (split, site) else row
        for row in record.metrics
    ]
    return replace(record, metrics=metrics)


@pytest.mark.parametrize("model", ["final", "best"])
def test_pooled_validation_images_alone_decide(record: RunRecord, model: str) -> None:
    value = validation_value(record, "auroc", model)
    assert value == validation_value(changed(record, "test", "pooled"), "auroc", model)
    assert value == validation_value(changed(record, "validation", "site-00"), "auroc", model)
    assert validation_value(changed(record, "validation", "pooled"), "auroc", model) == 9.0


def test_the_model_is_that_of_the_analysis(record: RunRecord, tmp_path: Path) -> None:
    metrics = [
        {**row, "value": 1.0 - row["round"] / 10}
        if (row["split"], row["site"], row["metric"]) == ("validation", "pooled", "auroc")
        else row
        for row in record.metrics
    ]
    falling = replace(record, metrics=metrics)
    assert validation_value(falling, "auroc", "final") == pytest.approx(0.7)
    assert validation_value(falling, "auroc", "best") == 1.0
