"""Metrics of predicted numbers against closed forms, by hand and with scipy's parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from clients.bootstrap import intervals
from clients.counted import counted_values
from clients.metrics import METRICS, Value, applicable, evaluate

ALL = ("mse", "rmse", "mae", "r2", "spearman")


def draw(num: int = 60) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return predicted numbers, (n, 1), and true ones with ties, (n,)."""
    rng = np.random.default_rng(num)
    truth = np.round(rng.gamma(1.0, 4.0, num)).astype(np.float32)
    predicted = truth + rng.normal(0, 2, num).astype(np.float32) + 0.5
    return predicted[:, None], truth


def values(scores: Any, truth: Any) -> dict[str, Value]:
    return evaluate(scores, truth, ALL, "regression")


def test_these_are_all_metrics_of_a_regression_and_of_nothing_else() -> None:
    assert applicable("regression") == ("bag_loss", *ALL)
    for name in ALL:
        assert METRICS[name].tasks == ("regression",)
        assert METRICS[name].higher_is_better == (name in ("r2", "spearman"))
    with pytest.raises(ValueError, match="no metrics of a regression task: auroc"):
        evaluate([[1.0]], [1.0], ("auroc",), "regression")
    with pytest.raises(ValueError, match="no metrics of a binary task: mse"):
        evaluate([[-1.0, -1.0]], [1], ("mse",), "binary")


def test_they_agree_with_their_definitions() -> None:
    scores, truth = draw()
    error = scores[:, 0].astype(np.float64) - truth
    ranks = np.stack([rankdata(scores[:, 0]), rankdata(truth)])
    expected = {
        "mse": np.sum(error**2) / 60,
        "rmse": np.sqrt(np.sum(error**2) / 60),
        "mae": np.sum(np.abs(error)) / 60,
        "r2": 1 - np.sum(error**2) / np.sum((truth - truth.mean(dtype=np.float64)) ** 2),
        "spearman": np.corrcoef(ranks)[0, 1],
    }
    found = values(scores, truth)
    assert {name: value.value for name, value in found.items()} == pytest.approx(expected)
    assert {value.num_valid for value in found.values()} == {60}


def test_four_numbers_by_hand() -> None:
    found = values([[1.0], [2.0], [3.0], [8.0]], [1.0, 3.0, 2.0, 6.0])
    assert found["mse"].value == pytest.approx((0 + 1 + 1 + 4) / 4)
    assert found["mae"].value == pytest.approx((0 + 1 + 1 + 2) / 4)
    assert found["r2"].value == pytest.approx(1 - 6 / 14)
    assert found["spearman"].value == pytest.approx(1 - 6 * 2 / (4 * 15))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("scores", "truth", "undetermined"),
    [
        ([[1.0], [2.0], [4.0]], [3.0, 3.0, 3.0], {"r2", "spearman"}),
        ([[2.0], [2.0], [2.0]], [1.0, 3.0, 5.0], {"spearman"}),
        ([[2.0]], [2.5], {"r2", "spearman"}),
        ([[np.inf], [1.0]], [2.5, 1.0], {"mse", "rmse", "mae", "r2"}),
        ([[np.nan], [1.0]], [2.5, 1.0], set(ALL)),
        (np.zeros((0, 1)), [], set(ALL)),
    ],
)
def test_what_is_undetermined_is_none(scores: Any, truth: Any, undetermined: set[str]) -> None:
    found = values(scores, truth)
    assert {name for name, value in found.items() if value.value is None} == undetermined


@pytest.mark.parametrize("name", ALL)
def test_many_resamples_at_once_are_each_alone(name: str) -> None:
    scores, truth = draw(40)
    counts = np.random.default_rng(0).poisson(1, (12, 40))
    counts[0] = truth == truth[0]
    found = counted_values(scores, truth, counts, name, "regression")
    for row, value in zip(counts, found, strict=True):
        chosen = np.repeat(np.arange(40), row)
        alone = evaluate(scores[chosen], truth[chosen], (name,), "regression")[name].value
        assert value == pytest.approx(np.nan if alone is None else alone, nan_ok=True)


def test_intervals_lie_about_the_value_and_are_of_the_errors_alone() -> None:
    scores, truth = draw(200)
    found = intervals(
        scores, truth, ALL, "regression", rng=np.random.default_rng(0), num_resamples=300
    )
    point = values(scores, truth)
    for name in ALL:
        low, high, value = found[name].low, found[name].high, point[name].value
        assert low is not None
        assert high is not None
        assert value is not None
        assert low < value < high
    assert found["mse"].low == pytest.approx(found["rmse"].low ** 2)  # type: ignore[operator]
