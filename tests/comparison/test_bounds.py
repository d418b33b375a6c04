"""Intervals for people end where the metric does; numbers for programs are as computed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from clients.metrics import METRICS
from fedsim.comparison import within_bounds
from fedsim.comparison.estimates import estimate


def comparison(metric: str, values: list[float]) -> dict[str, Any]:
    row = {"setting": "base", "method": "one", **estimate(values).row()}
    return {
        "primary": {"metric": metric},
        "summary": [{**row, "metric": metric}],
        "worst_site_summary": [row],
        "differences": [{**row, "metric": metric}],
        "yardsticks": [],
    }


@pytest.mark.parametrize(
    ("metric", "values", "low", "high"),
    [
        ("auroc", [0.99, 1.0, 0.9], None, 1),
        ("sensitivity", [0.0, 0.05, 0.5], 0, None),
        ("loss", [0.01, 0.6, 0.02], 0, None),
        ("spearman", [0.8, 0.9, 1.0], None, 1),
        ("quadratic_kappa", [-0.95, -1.0, -0.7], -1, None),
        ("r2", [-3.0, 0.9, 0.99], None, 1),
        ("auroc", [0.8, 0.81, 0.82], None, None),
    ],
)
def test_an_interval_is_cut_at_the_bound_that_it_passes(
    metric: str, values: list[float], low: float | None, high: float | None
) -> None:
    before = comparison(metric, values)
    after = within_bounds(before)
    (was,) = before["summary"]
    for part in ("summary", "worst_site_summary"):
        (row,) = after[part]
        assert row["low"] == (was["low"] if low is None else low)
        assert row["high"] == (was["high"] if high is None else high)
        assert (row["mean"], row["sd"]) == (was["mean"], was["sd"])
        assert METRICS[metric].bounds[0] <= row["low"] <= row["mean"] <= row["high"]


def test_differences_and_the_comparison_itself_stay_as_they_are() -> None:
    before = comparison("auroc", [0.99, 1.0, 0.9])
    kept = copy.deepcopy(before)
    assert before["summary"][0]["high"] > 1
    assert within_bounds(before)["differences"] == before["differences"]
    assert before == kept


def test_an_interval_that_is_not_there_stays_away() -> None:
    before = comparison("auroc", [0.9])
    assert within_bounds(before) == before
