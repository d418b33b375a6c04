"""How far a metric would move with other test images: percentile bootstrap intervals.

Images are drawn with replacement, or patients with all of their images where it is known whose they
are, for images of one patient are not independent. The model is taken as it is: what another seed
or another training set would change is not in the interval.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

>>> scores, labels = np.log([[0.9, 0.1], [0.2, 0.8]] * 30), np.array([0, 1] * 30)
>>> rng = np.random.default_rng(0)
>>> intervals(scores, labels, ("auroc",), "binary", rng=rng, num_resamples=20)
{'auroc': Interval(low=1.0, high=1.0, num_resamples=20)}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.metrics import Task, evaluate


@dataclass(frozen=True)
class Interval:
    """A percentile interval.

    Args:
        low: its lower end; None if fewer than half of the resamples determine the metric.
        high: its upper end, likewise.
        num_resamples: those that determine it.
    """

    low: float | None
    high: float | None
    num_resamples: int


def intervals(
    scores: NDArray[np.floating],
    labels: NDArray[Any],
    names: Sequence[str],
    task: Task,
    positive: int = 1,
    *,
    rng: np.random.Generator,
    num_resamples: int,
    confidence: float = 0.95,
    patients: NDArray[np.str_] | None = None,
) -> dict[str, Interval]:
    """Return an interval for each metric.

    Args:
        scores: log P(class | image), (example, class), or predicted numbers, (example, 1).
        labels: (example,), integers in [0, class), or true numbers.
        names: of metrics that apply to `task`.
        task: what kind of classification it is, or a regression.
        positive: index of the positive class of a binary task.
        rng: draws the resamples.
        num_resamples: how many.
        confidence: probability between the ends.
        patients: whose image each is, (example,); an empty text is somebody else every time.
    """
    scores = np.asarray(scores, np.float64)
    draw = _drawing(len(labels), patients)
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(num_resamples if len(labels) else 0):
        chosen = draw(rng)
        values = evaluate(scores[chosen], labels[chosen], names, task, positive)
        for name, value in values.items():
            if value.value is not None:
                found[name].append(value.value)
    return {name: _interval(values, num_resamples, confidence) for name, values in found.items()}


def _drawing(
    num: int, patients: NDArray[np.str_] | None
) -> Callable[[np.random.Generator], NDArray[np.int64]]:
    """Return a function that draws one resample."""
    if patients is None:
        return lambda rng: rng.integers(num, size=num)
    _, known = np.unique(patients, return_inverse=True)
    whose = np.where(patients == "", num + np.arange(num), known)
    order = np.argsort(whose, kind="stable")
    images = np.split(order, np.flatnonzero(np.diff(whose[order])) + 1)
    return lambda rng: np.concatenate(
        [images[i] for i in rng.integers(len(images), size=len(images))]
    )


def _interval(values: list[float], num_resamples: int, confidence: float) -> Interval:
    if not values or 2 * len(values) < num_resamples:
        return Interval(None, None, len(values))
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), len(values))
