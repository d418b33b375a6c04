"""A metric's value on many resamples at once, each given by how often every image is in it.

Bootstraps of whole studies ask for hundreds of thousands of values. The AUROC, all means over
examples and all metrics of the decided class are computed for many resamples together, others for
one after the other.

>>> scores, labels = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1])
>>> counted_values(scores, labels, np.array([[1, 1, 1], [0, 2, 1]]), "auroc", "binary")
array([ 1., nan])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.metrics import Task, evaluate, label_type, log_odds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
AT_ONCE = 2**22
"""Counts that are worked on together; more take more memory, not less time."""


def counted_values(
    scores: NDArray[Any],
    labels: NDArray[Any],
    counts: NDArray[np.integer],
    name: str,
    task: Task,
    positive: int = 1,
) -> NDArray[np.float64]:
    """Return the metric of each resample, (resample,); nan where it is undetermined.

    Args:
        scores: log P(class | image), (example, class), or predicted numbers, (example, 1).
        labels: (example,), integers in [0, class), or true numbers.
        counts: how often each example is in each resample, (resample, example), not negative.
        name: of a metric that applies to `task`.
        task: what kind of classification it is, or a regression.
        positive: index of the positive class of a binary task.
    """
    scores = np.asarray(scores, np.float64)
    truth: NDArray[Any] = np.asarray(labels, label_type(task))
    found = np.full(len(counts), np.nan)
    if not len(truth) or np.isnan(scores).any():
        return found
    if name == "auroc":
        return _auroc(scores, truth, counts, positive)
    if name in _MEANS:
        mean, finish = _MEANS[name]
        return finish(_mean(mean(scores, truth), counts))
    if name in _OF_CONFUSION:
        with np.errstate(invalid="ignore", divide="ignore"):
            return _OF_CONFUSION[name](_confusion(scores, truth, counts), positive)
    for number, count in enumerate(counts):
        chosen = np.repeat(np.arange(len(truth)), count)
        value = evaluate(scores[chosen], truth[chosen], (name,), task, positive)[name].value
        if value is not None:
            found[number] = value
    return found


def _auroc(scores: Floats, labels: Ints, counts: NDArray[np.integer], positive: int) -> Floats:
    """Return what `clients.metrics.auroc` would, resample by resample."""
    num_classes = scores.shape[1]
    classes = [positive] if num_classes == 2 else range(num_classes)
    parts = np.array_split(counts, max(1, counts.size // AT_ONCE))
    areas = np.stack(
        [
            np.concatenate([_area(log_odds(scores, c), labels == c, part) for part in parts])
            for c in classes
        ]
    )
    present = ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(present, areas, 0).sum(0) / present.sum(0)
    return mean


def _area(scores: Floats, positives: NDArray[np.bool_], counts: NDArray[np.integer]) -> Floats:
    """Return the area under each resample's ROC curve, ties counted half; nan for one class."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    weights = counts[:, order].astype(np.float64)
    found = np.add.reduceat(weights * positives[order], starts, axis=1)
    others = np.add.reduceat(weights * ~positives[order], starts, axis=1)
    below = np.cumsum(others, axis=1) - others / 2
    with np.errstate(invalid="ignore"):
        area: Floats = (found * below).sum(1) / (found.sum(1) * others.sum(1))
    return area


def _mean(values: Floats, counts: NDArray[np.integer]) -> Floats:
    """Return the mean of each resample; nan where one of its values is not finite."""
    impossible = ~np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = counts @ np.where(impossible, 0, values) / counts.sum(1)
    return np.where(counts @ impossible > 0, np.nan, mean)


def _surprise(scores: Floats, labels: Ints) -> Floats:
    surprise: Floats = -scores[np.arange(len(labels)), labels]
    return surprise


def _squared_error(scores: Floats, truth: Floats) -> Floats:
    return (scores[:, 0] - truth) ** 2


def _absolute_error(scores: Floats, truth: Floats) -> Floats:
    return np.abs(scores[:, 0] - truth)


def _confusion(scores: Floats, labels: Ints, counts: NDArray[np.integer]) -> Floats:
    """Return how often each class is decided for each true one, (resample, true, decided)."""
    num = scores.shape[1]
    cells = labels * num + scores.argmax(axis=1)
    found: Floats = counts @ (cells[:, None] == np.arange(num * num)).astype(np.float64)
    return found.reshape(-1, num, num)


def _hits(confusion: Floats) -> Floats:
    """Return the examples of each class that are decided rightly, (resample, class)."""
    hits: Floats = np.diagonal(confusion, axis1=1, axis2=2)
    return hits


def _accuracy(confusion: Floats, positive: int) -> Floats:
    share: Floats = _hits(confusion).sum(1) / confusion.sum((1, 2))
    return share


def _recall(confusion: Floats) -> Floats:
    share: Floats = _hits(confusion) / confusion.sum(2)
    return share


def _balanced_accuracy(confusion: Floats, positive: int) -> Floats:
    mean: Floats = _recall(confusion).mean(1)
    return mean


def _f1(confusion: Floats, positive: int) -> Floats:
    per_class = 2 * _hits(confusion) / (confusion.sum(1) + confusion.sum(2))
    if per_class.shape[1] == 2:
        of_positive: Floats = per_class[:, positive]
        return of_positive
    there = ~np.isnan(per_class)
    mean: Floats = np.where(there, per_class, 0).sum(1) / there.sum(1)
    return mean


def _quadratic_kappa(confusion: Floats, positive: int) -> Floats:
    grades = np.arange(confusion.shape[1])
    weights = (grades[:, None] - grades) ** 2
    true, decided = confusion.sum(2), confusion.sum(1)
    chance = true[:, :, None] * decided[:, None, :] / confusion.sum((1, 2))[:, None, None]
    kappa: Floats = 1 - (weights * confusion).sum((1, 2)) / (weights * chance).sum((1, 2))
    return np.where(np.count_nonzero(true, axis=1) < 2, np.nan, kappa)


_MEANS: Mapping[str, tuple[Callable[[Floats, Any], Floats], Callable[[Floats], Floats]]] = {
    "loss": (_surprise, np.asarray),
    "mse": (_squared_error, np.asarray),
    "rmse": (_squared_error, np.sqrt),
    "mae": (_absolute_error, np.asarray),
}
"""Metric -> what it is the mean of, and what is made of the mean."""
_OF_CONFUSION: Mapping[str, Callable[[Floats, int], Floats]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "sensitivity": lambda confusion, positive: _recall(confusion)[:, positive],
    "specificity": lambda confusion, positive: _recall(confusion)[:, 1 - positive],
    "f1": _f1,
    "quadratic_kappa": _quadratic_kappa,
}
