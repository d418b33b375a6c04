"""Sensitivities by enumeration: every label vector of a small bag against all of its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from fedsim.privacy.label import Geometric, Laplace, Relation, Truncation, of_counts, of_sums

SILENT = Geometric(epsilon=1e6)  # its noise is 0, so what is released is what noise is added to
BLANK = -1
"""A label that counts for no class."""


def neighbours(
    labels: tuple[int, ...], values: tuple[int, ...], relation: Relation
) -> Iterator[tuple[int, ...]]:
    """Yield all vectors that differ in one label."""
    others = values if relation == "replace_one" else (BLANK,)
    for place, label in enumerate(labels):
        for other in others:
            if other != label:
                yield (*labels[:place], other, *labels[place + 1 :])


def told(labels: tuple[int, ...], num_classes: int) -> NDArray[np.float64]:
    """Return the sums that noise is added to: of two classes the second one's count alone."""
    counts = (np.array(labels)[:, None] == np.arange(num_classes)).sum(axis=0)
    proportions = SILENT.release(counts[None], np.array([len(labels)]), np.random.default_rng(0))
    return len(labels) * (proportions[0, 1:] if num_classes == 2 else proportions[0])


@pytest.mark.parametrize("relation", ["replace_one", "zero_out"])
@pytest.mark.parametrize(("num_classes", "size"), [(2, 1), (2, 4), (3, 4), (4, 3), (5, 2)])
def test_the_sensitivity_of_counts_is_the_largest_change(
    num_classes: int, size: int, relation: Relation
) -> None:
    classes = tuple(range(num_classes))
    changes = np.array(
        [
            told(other, num_classes) - told(labels, num_classes)
            for labels in product(classes, repeat=size)
            for other in neighbours(labels, classes, relation)
        ]
    )
    largest = np.abs(changes).sum(axis=1).max(), np.linalg.norm(changes, axis=1).max()
    assert of_counts(num_classes, relation) == pytest.approx(largest, rel=1e-12)


@pytest.mark.parametrize("relation", ["replace_one", "zero_out"])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 5.0), (-3.0, 2.0), (2.0, 3.0)])
def test_the_sensitivity_of_sums_is_the_largest_change(
    low: float, high: float, relation: Relation
) -> None:
    truncation = Truncation(low=low, high=high)
    targets, _ = truncation.truncate(np.linspace(low - 1, high + 1, 41))
    moved = targets[:, None] - (targets if relation == "replace_one" else np.zeros(1))
    assert of_sums(truncation, relation) == pytest.approx([np.abs(moved).max()] * 2, rel=1e-12)


def test_the_other_class_of_two_is_what_is_left() -> None:
    counts, sizes = np.array([[3, 5], [0, 4], [7, 0]]), np.array([8, 4, 7])
    found = Laplace(epsilon=0.5).release(counts, sizes, np.random.default_rng(0))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=0, atol=1e-15)
    assert (found != counts / sizes[:, None]).all()


def test_one_label_moves_the_release_of_one_bag() -> None:
    sizes = np.array([4, 4])
    one, other = np.array([[2, 1, 1], [4, 0, 0]]), np.array([[1, 2, 1], [4, 0, 0]])
    releases = [
        Laplace(epsilon=1.0).release(counts, sizes, np.random.default_rng(0))
        for counts in (one, other)
    ]
    assert (releases[0][0] != releases[1][0]).any()
    assert (releases[0][1] == releases[1][1]).all()
