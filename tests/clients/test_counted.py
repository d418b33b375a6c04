"""Metrics of many resamples at once are those of each resample alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from clients import counted
from clients.counted import counted_values
from clients.metrics import Task, applicable, evaluate


def predictions(classes: int, ties: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(classes)
    labels = rng.integers(classes, size=40)
    logits = rng.normal(0, 1, (40, classes))
    logits[np.arange(40), labels] += 1
    if ties:
        logits = np.round(logits)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), labels


CASES = [
    (task, name)
    for task in ("binary", "multiclass", "ordinal")
    for name in applicable(task)  # type: ignore[arg-type]
]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("task", "name"), CASES)
def test_values_are_those_of_repeated_images(task: Task, name: str, ties: bool) -> None:
    classes = 2 if task == "binary" else 4
    scores, labels = predictions(classes, ties)
    rng = np.random.default_rng(0)
    counts = rng.poisson(1, (12, 40))
    counts[0] = labels == 0  # one class alone
    counts[1] = labels < 2  # classes that are absent
    found = counted_values(scores, labels, counts, name, task, positive=1)
    for row, value in zip(counts, found, strict=True):
        chosen = np.repeat(np.arange(40), row)
        expected = evaluate(scores[chosen], labels[chosen], (name,), task, 1)[name].value
        assert value == pytest.approx(np.nan if expected is None else expected, nan_ok=True)


def test_the_other_class_may_be_the_positive_one() -> None:
    scores, labels = predictions(2, ties=False)
    once = np.ones((1, 40), np.int64)
    (found,) = counted_values(scores, labels, once, "sensitivity", "binary", positive=0)
    assert found == evaluate(scores, labels, ("sensitivity",), "binary", 0)["sensitivity"].value


def test_what_is_no_number_determines_nothing() -> None:
    scores, labels = predictions(2, ties=False)
    scores[3] = np.nan
    counts = np.ones((2, 40), np.int64)
    for name in ("auroc", "loss"):
        assert np.isnan(counted_values(scores, labels, counts, name, "binary")).all()


def test_no_images_determine_nothing() -> None:
    nothing = np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros((3, 0), np.int64)
    assert np.isnan(counted_values(*nothing, "auroc", "binary")).all()


def test_working_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = predictions(2, ties=True)
    counts = np.random.default_rng(1).poisson(1, (30, 40))
    whole = counted_values(scores, labels, counts, "auroc", "binary")
    monkeypatch.setattr(counted, "AT_ONCE", 100)
    assert (counted_values(scores, labels, counts, "auroc", "binary") == whole).all()
