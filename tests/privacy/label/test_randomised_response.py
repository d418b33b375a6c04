"""Randomised response: its confusion is what it does, hides by epsilon and can be inverted."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import chisquare

from fedsim.privacy.label import RandomisedResponse

NUM_EXAMPLES = 60_000


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0, 50.0, 1e6])
@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_the_confusion_is_a_law_that_keeps_epsilon_exactly(
    num_classes: int, epsilon: float
) -> None:
    confusion = RandomisedResponse(epsilon=epsilon).confusion(num_classes)
    np.testing.assert_allclose(confusion.sum(axis=1), 1, rtol=1e-12)
    others = np.exp(-epsilon)
    np.testing.assert_allclose(np.diag(confusion), 1 / (1 + (num_classes - 1) * others), rtol=1e-12)
    if epsilon <= 50:
        ratios = confusion[:, None] / confusion
        assert np.log(ratios.max()) == pytest.approx(epsilon, rel=1e-9)


@pytest.mark.parametrize(("num_classes", "epsilon"), [(2, 1.098612), (10, 2.397895)])
def test_half_of_the_labels_are_drawn_at_the_epsilon_of_the_oracle(
    num_classes: int, epsilon: float
) -> None:
    event = RandomisedResponse(epsilon=epsilon).event(num_classes).event
    assert event.noise_parameter == pytest.approx(0.5, abs=1e-6)
    assert event.num_buckets == num_classes


@pytest.mark.parametrize("num_classes", [2, 3])
def test_labels_are_told_by_the_confusion_and_by_no_other(num_classes: int) -> None:
    privacy, other = RandomisedResponse(epsilon=1.0), RandomisedResponse(epsilon=1.1)
    for label in range(num_classes):
        labels = np.full(NUM_EXAMPLES, label)
        told = privacy.mislabel(labels, num_classes, np.random.default_rng(label))
        seen = np.bincount(told, minlength=num_classes)
        assert chisquare(seen, NUM_EXAMPLES * privacy.confusion(num_classes)[label]).pvalue > 1e-3
        assert chisquare(seen, NUM_EXAMPLES * other.confusion(num_classes)[label]).pvalue < 1e-6


def test_inverting_the_confusion_gives_the_proportions_back_without_bias() -> None:
    privacy, truth = RandomisedResponse(epsilon=1.0), np.array([0.7, 0.2, 0.1])
    labels = np.random.default_rng(0).choice(3, NUM_EXAMPLES, p=truth)
    truth = np.bincount(labels) / NUM_EXAMPLES
    inverse = np.linalg.inv(privacy.confusion(3))
    estimates = inverse[privacy.mislabel(labels, 3, np.random.default_rng(1))]
    error = estimates.std(axis=0) / NUM_EXAMPLES**0.5
    assert (np.abs(estimates.mean(axis=0) - truth) < 4 * error).all()
    told = np.bincount(privacy.mislabel(labels, 3, np.random.default_rng(1))) / NUM_EXAMPLES
    assert np.abs(told - truth).max() > 20 * error.max(), "the control: labels as told are biased"


def test_the_same_stream_tells_the_same_labels() -> None:
    privacy, labels = RandomisedResponse(epsilon=0.5), np.arange(1000) % 4
    first, again = (privacy.mislabel(labels, 4, np.random.default_rng(1)) for _ in range(2))
    assert first.dtype == np.int64
    assert (first == again).all()
    assert (first != labels).any()
    assert (
        RandomisedResponse(epsilon=1e6).mislabel(labels, 4, np.random.default_rng(1)) == labels
    ).all()


@pytest.mark.parametrize("epsilon", [0, -1.0, float("inf")])
def test_numbers_that_promise_nothing_are_refused(epsilon: float) -> None:
    with pytest.raises(ValidationError):
        RandomisedResponse(epsilon=epsilon)
