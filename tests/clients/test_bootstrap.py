"""Bootstrap intervals against another implementation, a closed form, and perfect correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, bootstrap

from clients.bootstrap import Interval, intervals
from clients.metrics import Value


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
    one_image = 1 / 120 + 1e-9
    assert ours.low == pytest.approx(theirs.low, abs=one_image)
    assert ours.high == pytest.approx(theirs.high, abs=one_image)
    narrower = accuracy(3, 120, confidence=0.8)
    assert narrower.low != pytest.approx(theirs.low, abs=one_image)
    assert narrower.high != pytest.approx(theirs.high, abs=one_image)


def test_accuracy_has_the_quantiles_of_its_binomial() -> None:
    scores, labels = draw(5, 200)
    share = float((scores.argmax(axis=1) == labels).mean())
    ours = accuracy(5, 200, confidence=0.9)
    assert ours.low == pytest.approx(binom.ppf(0.05, 200, share) / 200, abs=0.0051)
    assert ours.high == pytest.approx(binom.ppf(0.95, 200, share) / 200, abs=0.0051)


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_intervals_cover_the_truth_as_often_as_they_say(confidence: float) -> None:
    """The loss of a model that always gives 0.8 is a binomial share, scaled and shifted."""
    rng, num, runs = np.random.default_rng(0), 80, 300
    scores = np.tile(np.log([0.8, 0.2]), (num, 1))
    truth = -(0.7 * np.log(0.8) + 0.3 * np.log(0.2))
    covered = 0
    for _ in range(runs):
        labels = (rng.random(num) >= 0.7).astype(np.int64)
        found = intervals(
            scores,
            labels,
            ("loss",),
            "binary",
            rng=rng,
            num_resamples=150,
            confidence=confidence,
        )["loss"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert covered / runs == pytest.approx(confidence, abs=0.05)


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


def test_names_of_patients_do_not_matter() -> None:
    """Not even where others are unknown, who have no name."""
    scores, labels = draw(9, 40)
    found = [
        intervals(
            scores,
            labels,
            ("accuracy", "loss"),
            "binary",
            rng=np.random.default_rng(0),
            num_resamples=100,
            patients=np.array([first] * 10 + [second] * 10 + [""] * 20),
        )
        for first, second in (("Ann", "Bob"), ("25", "30"))
    ]
    assert found[0] == found[1]


def test_the_same_stream_draws_the_same_and_another_something_else() -> None:
    assert accuracy(1, 50, 100) == accuracy(1, 50, 100)
    scores, labels = draw(1, 50)
    losses = {
        intervals(
            scores, labels, ("loss",), "binary", rng=np.random.default_rng(seed), num_resamples=50
        )["loss"]
        for seed in (1, 1, 2)
    }
    assert len(losses) == 2


@pytest.mark.parametrize(("num_defined", "given"), [(5, True), (4, False)])
def test_half_of_the_resamples_must_determine_it(
    monkeypatch: pytest.MonkeyPatch, num_defined: int, given: bool
) -> None:
    values = iter([*range(num_defined), *[None] * (10 - num_defined)])
    monkeypatch.setattr("clients.bootstrap.evaluate", lambda *_: {"f1": Value(next(values), 9)})
    scores, labels = draw(1, 9)
    rng = np.random.default_rng(0)
    found = intervals(scores, labels, ("f1",), "binary", rng=rng, num_resamples=10)["f1"]
    assert found.num_resamples == num_defined
    assert (found.low is not None) == (found.high is not None) == given


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
