"""A metric's value on many resamples at once, each given by how often every image is in it.

The AUROC, which bootstraps of whole studies ask for, is computed for all resamples together; other
metrics one resample after the other.

>>> scores, labels = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1])
>>> counted_values(scores, labels, np.array([[1, 1, 1], [0, 2, 1]]), "auroc", "binary")
array([ 1., nan])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.metrics import Task, evaluate, log_odds

AT_ONCE = 2**22
"""Counts that are worked on together; more take more memory, not less time."""


def counted_values(
    log_probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    counts: NDArray[np.integer],
    name: str,
    task: Task,
    positive: int = 1,
) -> NDArray[np.float64]:
    """Return the metric of each resample, (resample,); nan where it is undetermined.

    Args:
        log_probabilities: log P(class | image), (example, class).
        labels: (example,), integers in [0, class).
        counts: how often each example is in each resample, (resample, example), not negative.
        name: of a metric that applies to `task`.
        task: what kind of classification it is.
        positive: index of the positive class of a binary task.
    """
    scores = np.asarray(log_probabilities, np.float64)
    if name == "auroc" and len(labels) and not np.isnan(scores).any():
        return _auroc(scores, np.asarray(labels), counts, positive)
    found = np.full(len(counts), np.nan)
    for number, count in enumerate(counts):
        chosen = np.repeat(np.arange(len(labels)), count)
        value = evaluate(scores[chosen], labels[chosen], (name,), task, positive)[name].value
        if value is not None:
            found[number] = value
    return found


def _auroc(
    scores: NDArray[np.float64],
    labels: NDArray[np.integer],
    counts: NDArray[np.integer],
    positive: int,
) -> NDArray[np.float64]:
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
        mean: NDArray[np.float64] = np.where(present, areas, 0).sum(0) / present.sum(0)
    return mean


def _area(
    scores: NDArray[np.float64], positives: NDArray[np.bool_], counts: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the area under each resample's ROC curve, ties counted half; nan for one class."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    weights = counts[:, order].astype(np.float64)
    found = np.add.reduceat(weights * positives[order], starts, axis=1)
    others = np.add.reduceat(weights * ~positives[order], starts, axis=1)
    below = np.cumsum(others, axis=1) - others / 2
    with np.errstate(invalid="ignore"):
        area: NDArray[np.float64] = (found * below).sum(1) / (found.sum(1) * others.sum(1))
    return area
