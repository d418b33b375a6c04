"""Bootstrap intervals against another implementation, a closed form, and perfect correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, bootstrap

from clients.bootstrap import Interval, intervals


def draw(seed: int, num: int) -> tuple[Any, Any]:
    """Return log-probabilities that are right in seven of ten cases, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=num)
    right = rng.random(num) < 0.7
    decided = np.where(right, labels, 1 - labels)
    probability = np.where(decided == 1, 0.8, 0.2) + rng.normal(0, 0.02, num)
    return np.log(np.column_stack([1 - probability, probability])), labels


def accuracy(seed: int, num: int, resamples: int = 2000, **more: Any) -> Interval:
    scores, labels = draw(seed, num)
    rng = np.random.default_rng(1)
    return intervals(
        scores, labels, ("accuracy",), "binary", rng=rng, num_resamples=resamples, **more
    )["accuracy"]


def test_accuracy_agrees_with_scipy() -> None:
    scores, labels = draw(3, 120)
    correct = (scores.argmax(axis=1) == labels).astype(float)
    theirs = bootstrap(
        (correct,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = accuracy(3, 120)
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_accuracy_has_the_quantiles_of_its_binomial() -> None:
    scores, labels = draw(5, 200)
    share = float((scores.argmax(axis=1) == labels).mean())
    ours = accuracy(5, 200, confidence=0.9)
    assert ours.low == pytest.approx(binom.ppf(0.05, 200, share) / 200, abs=0.011)
    assert ours.high == pytest.approx(binom.ppf(0.95, 200, share) / 200, abs=0.011)


def test_patients_are_drawn_as_a_whole() -> None:
    scores, labels = draw(7, 60)
    scores, labels = np.repeat(scores, 8, axis=0), np.repeat(labels, 8)
    patients = np.repeat(np.arange(60).astype(str), 8)

    def width(whose: Any) -> float:
        found = intervals(
            scores,
            labels,
            ("accuracy",),
            "binary",
            rng=np.random.default_rng(0),
            num_resamples=600,
            patients=whose,
        )["accuracy"]
        assert found.low is not None
        assert found.high is not None
        return found.high - found.low

    assert width(patients) == pytest.approx(width(None) * np.sqrt(8), rel=0.15)
    assert width(np.full(480, "")) == pytest.approx(width(None), rel=0.15)


def test_the_same_stream_draws_the_same() -> None:
    assert accuracy(1, 50, 100) == accuracy(1, 50, 100)


def test_resamples_that_determine_nothing_are_left_out_and_counted() -> None:
    scores, labels = draw(2, 12)
    labels = np.array([1] + [0] * 11)
    rng = np.random.default_rng(0)
    found = intervals(scores, labels, ("auroc", "loss"), "binary", rng=rng, num_resamples=400)
    present = 1 - (11 / 12) ** 12
    assert found["auroc"].num_resamples == pytest.approx(400 * present, abs=60)
    assert found["auroc"].low is not None
    assert found["loss"].num_resamples == 400
    one_class = np.zeros(12, np.int64)
    found = intervals(scores, one_class, ("auroc",), "binary", rng=rng, num_resamples=10)
    assert found["auroc"] == Interval(None, None, 0)
    nothing = intervals(scores[:0], labels[:0], ("loss",), "binary", rng=rng, num_resamples=10)
    assert nothing["loss"] == Interval(None, None, 0)
