"""What is told of bags: aggregates of the labels in each.

>>> labels, bags = np.array([1, 1, 0, 2]), np.array([0, 0, 1, 1])
>>> class_counts(labels, bags, 3).tolist(), highest(class_counts(labels, bags, 3)).tolist()
([[0, 2, 0], [1, 0, 1]], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
>>> means(np.array([1.0, 2.0, 3.0, 5.0]), bags).tolist()
[1.5, 4.0]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.privacy.label import Truncation

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


def class_counts(labels: Indices, bags: Indices, num_classes: int) -> Indices:
    """Return examples per class, (bag, class).

    Args:
        labels: classes, (example,).
        bags: the bag of each example, (example,), from 0 without a gap.
        num_classes: of the task.
    """
    counts = np.zeros((int(bags.max(initial=-1)) + 1, num_classes), np.int64)
    np.add.at(counts, (bags, labels), 1)
    return counts


def highest(counts: Indices) -> Floats:
    """Return the highest class that is in each bag, one-hot, (bag, class)."""
    num_classes = counts.shape[1]
    found: Floats = np.eye(num_classes)[num_classes - 1 - (counts[:, ::-1] > 0).argmax(axis=1)]
    return found


def means(numbers: Floats, bags: Indices) -> Floats:
    """Return the mean of each bag, (bag,).

    Args:
        numbers: (example,).
        bags: the bag of each example, (example,), from 0 without a gap.
    """
    means: Floats = np.bincount(bags, weights=numbers) / np.bincount(bags)
    return means


def truncated(numbers: NDArray[Any], truncation: Truncation) -> tuple[Floats, dict[str, float]]:
    """Return numbers within a range, (example,), and what that did to them.

    Args:
        numbers: (example,).
        truncation: the range.

    Returns:
        The numbers, and: num, how many; num_moved, how many were outside; shift, by how much their
        mean moved. The latter depend on the numbers: they are for the simulator's own records.
    """
    numbers = numbers.astype(np.float64)  # as the range is: a rounded end may lie outside
    inside, share = truncation.truncate(numbers)
    num = len(numbers)
    shift = float(inside.mean() - numbers.mean()) if num else 0.0
    return inside, {"num": num, "num_moved": round(share * num), "shift": shift}
