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
        "primary_intervals": [{**row, "difference_low": -1.2, "difference_high": 1.3}],
        "subgroups": [{**row, "group": "female"}],
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
    for part in ("summary", "worst_site_summary", "primary_intervals", "subgroups"):
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


def test_a_gap_between_groups_is_no_less_than_zero_and_no_more_than_the_range() -> None:
    before = comparison("spearman", [0.1, 0.9, 0.2])
    before["subgroups"] = [{**before["subgroups"][0], "group": None, "low": -0.7, "high": 2.4}]
    (gap,) = within_bounds(before)["subgroups"]
    assert (gap["low"], gap["high"]) == (0, 2)


def test_differences_of_bootstraps_stay_too() -> None:
    (row,) = within_bounds(comparison("auroc", [0.99, 1.0, 0.9]))["primary_intervals"]
    assert (row["difference_low"], row["difference_high"]) == (-1.2, 1.3)


def test_an_interval_that_is_not_there_stays_away() -> None:
    before = comparison("auroc", [0.9])
    assert within_bounds(before) == before
