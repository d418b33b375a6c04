"""What is left of labels once they are aggregated, and what a site knows of its labels at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.objectives.base import Supervision
from fedsim.data.source import Split

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Aggregates:
    """Bags of examples and their mean labels.

    Args:
        of_example: the bag that each example lies in, (example,), from 0; every bag has some.
        responses: mean label of each bag, (bag, class), float32; of classes, their proportions.
    """

    of_example: Indices
    responses: NDArray[np.float32]

    @property
    def sizes(self) -> Indices:
        """Examples in every bag, (bag,)."""
        return np.bincount(self.of_example, minlength=len(self.responses))

    @property
    def class_counts(self) -> Indices:
        """Examples per class as near as the responses tell, (class,)."""
        counts: Indices = np.rint(self.sizes @ self.responses).astype(np.int64)
        return counts

    def describe(self) -> dict[str, int]:
        """Return how many bags there are, of which sizes, and how many are pure, as plain data.

        A bag is pure if all of its examples are of one class, as far as its response says.
        """
        sizes = self.sizes
        return {
            "num_bags": len(sizes),
            "smallest": int(sizes.min()) if len(sizes) else 0,
            "largest": int(sizes.max(initial=0)),
            "num_pure": int((self.responses.max(axis=1, initial=0) >= 1).sum()),
        }


@dataclass(frozen=True)
class Knowledge:
    """What a site knows of the labels of its training and validation examples.

    Args:
        kind: labels, bags or nothing.
        aggregates: for each split, its bags; several divisions of the same examples if they were
            drawn several times.
        confusion: P(label that is shown | label), (class, class), where labels were randomised.
        release: what protects its labels, as plain data for the record; empty if nothing does.
    """

    kind: Supervision = "labels"
    aggregates: Mapping[Split, tuple[Aggregates, ...]] = field(default_factory=dict)
    confusion: NDArray[np.float64] | None = None
    release: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return it as plain data: its kind, and for each split the first division into bags."""
        bags = {split: found[0].describe() for split, found in self.aggregates.items()}
        return {"knows": self.kind, "bags": bags, "release": dict(self.release)}


def text(described: Mapping[str, Mapping[str, Any]], num_sites: int) -> str:
    """Return what sites know of their labels in a sentence; nothing if they know all.

    Args:
        described: site -> `Knowledge.describe()`, for sites that do not plainly know all labels.
        num_sites: of the population.

    >>> bags = {"num_bags": 20, "smallest": 4, "largest": 5, "num_pure": 5}
    >>> known = Knowledge("bags").describe() | {"bags": {"train": bags, "validation": bags}}
    >>> text({"a": known, "b": Knowledge("nothing").describe()}, 3)
    '1 site has labels; 1 site has 20 training bags of 4 to 5 images (25 % of one class alone) and \
20 validation bags; 1 site has no labels'
    """
    if not described:
        return ""
    counts = Counter(known["knows"] for known in described.values())
    counts["labels"] += num_sites - len(described)
    said = {"labels": "labels", "bags": _bags_text(described), "nothing": "no labels"}
    return "; ".join(
        f"{counts[kind]} {'site has' if counts[kind] == 1 else 'sites have'} {what}"
        for kind, what in said.items()
        if counts[kind]
    )


def promises(described: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what is promised about labels, each promise once.

    Args:
        described: site -> `Knowledge.describe()`.
    """
    said = (known["release"].get("promise") for known in described.values())
    return list(dict.fromkeys(filter(None, said)))


def _bags_text(described: Mapping[str, Mapping[str, Any]]) -> str:
    found = [known["bags"] for known in described.values() if known["knows"] == "bags"]
    if not found:
        return ""
    train = [bags["train"] for bags in found]
    num = sum(bags["num_bags"] for bags in train)
    low, high = min(b["smallest"] for b in train), max(b["largest"] for b in train)
    pure = sum(b["num_pure"] for b in train) / num if num else 0.0
    validation = sum(bags["validation"]["num_bags"] for bags in found)
    size = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"{num} training bags of {size} images ({pure:.0%} of one class alone)".replace("%", " %")
        + f" and {validation} validation bags"
    )
