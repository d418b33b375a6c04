"""From the names of classes to their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedsim.errors import DataError


def numbered(labels: Sequence[str], class_names: tuple[str, ...], origin: str) -> NDArray[np.int64]:
    """Return the index of each label among the classes, (n,).

    Args:
        labels: names.
        class_names: in their order.
        origin: of the labels, for errors.

    Raises:
        DataError: if a label is no class.

    >>> numbered(["yes", "no"], ("no", "yes"), "here").tolist()
    [1, 0]
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    if strange := sorted(set(labels) - set(numbers)):
        shown = ", ".join(map(repr, strange[:5]))
        raise DataError(
            f"{origin}: has labels that are no classes: {shown}; class_names are "
            f"{', '.join(map(repr, class_names))}"
        )
    return np.array([numbers[label] for label in labels], np.int64)
