"""Which trial is chosen: by validation images alone, the earlier of equal ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedsim.comparison.tuning import validation_value
from fedsim.records import RunRecord
from fedsim.scenario import from_data
from fedsim.simulate import run
from fedsim.study.cells import PlannedCell
from fedsim.study.choice import choose


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
    value = validation_value(record, "auroc", model, pooled=True)
    assert value == validation_value(changed(record, "test", "pooled"), "auroc", model, pooled=True)
    assert value == validation_value(
        changed(record, "validation", "site-00"), "auroc", model, pooled=True
    )
    assert (
        validation_value(changed(record, "validation", "pooled"), "auroc", model, pooled=True)
        == 9.0
    )


def test_the_model_is_that_of_the_analysis(record: RunRecord, tmp_path: Path) -> None:
    metrics = [
        {**row, "value": 1.0 - row["round"] / 10}
        if (row["split"], row["site"], row["metric"]) == ("validation", "pooled", "auroc")
        else row
        for row in record.metrics
    ]
    falling = replace(record, metrics=metrics)
    assert validation_value(falling, "auroc", "final", pooled=True) == pytest.approx(0.7)
    assert validation_value(falling, "auroc", "best", pooled=True) == 1.0


def judged(
    record: RunRecord, sites: dict[str, tuple[list[int], float | None]], *, drawn: bool = False
) -> float | None:
    """Return what judges, of sites with these validation images per class and these values."""
    last = record.selection.final_round
    row = {"round": last, "split": "validation", "metric": "auroc"}
    values = {"pooled": 0.99, **{name: value for name, (_, value) in sites.items()}}
    metrics = [{**row, "site": name, "value": value} for name, value in values.items()]
    metrics.append({**row, "site": "a", "value": 0.0, "split": "test"})
    metrics.append({**row, "site": "a", "value": 0.0, "round": 0})
    population = {
        "drawn": drawn,
        "sites": [{"name": name, "validation": counts} for name, (counts, _) in sites.items()],
    }
    evaluation = {**record.scenario["evaluation"], "min_per_class": 5}
    scenario = {**record.scenario, "evaluation": evaluation}
    told = replace(record, metrics=metrics, population=population, scenario=scenario)
    return validation_value(told, "auroc", "final", pooled=False)


def test_a_mean_over_sites_is_tuned_by_a_mean_over_sites(record: RunRecord) -> None:
    sites = {"a": ([5, 9], 0.5), "b": ([80, 90], 0.75), "c": ([4, 90], 0.0)}  # c has too few
    assert judged(record, sites) == pytest.approx((0.5 + 0.75) / 2)


def test_where_no_site_has_enough_all_of_them_judge_together(record: RunRecord) -> None:
    assert judged(record, {"a": ([4, 9], 0.5), "b": ([9, 0], None)}) == 0.99
    assert judged(record, {"a": ([9, 9], 0.5)}, drawn=True) == 0.99


def test_a_site_without_a_value_leaves_the_trial_without_one(record: RunRecord) -> None:
    assert judged(record, {"a": ([5, 9], 0.5), "b": ([80, 90], None)}) is None
