"""What is left of labels once they are aggregated, and what a site knows of its labels at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.batch import UNKNOWN
from clients.objectives.base import Supervision
from fedsim.data.source import Numbers, Split

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Aggregates:
    """Bags of examples and their mean labels.

    Args:
        of_example: the bag that each example lies in, (example,), from 0; every bag has some.
        responses: mean label of each bag, (bag, class), float32: of classes, their proportions; of
            real numbers, (bag, 1), their mean, in their unit.
    """

    of_example: Indices
    responses: NDArray[np.float32]

    @property
    def of_numbers(self) -> bool:
        """Whether responses are means of real numbers."""
        return bool(self.responses.shape[1] == 1)

    @property
    def sizes(self) -> Indices:
        """Examples in every bag, (bag,)."""
        return np.bincount(self.of_example, minlength=len(self.responses))

    @property
    def class_counts(self) -> Indices:
        """Examples per class as near as the responses tell, (class,)."""
        counts: Indices = np.rint(self.sizes @ self.responses).astype(np.int64)
        return counts

    def describe(self) -> dict[str, int | None]:
        """Return how many bags there are, of which sizes, and how many are pure, as plain data.

        A bag is pure if all of its examples are of one class, as far as its response says; None of
        real numbers, which have no classes.
        """
        sizes, pure = self.sizes, self.responses.max(axis=1, initial=0) >= 1
        return {
            "num_bags": len(sizes),
            "smallest": int(sizes.min()) if len(sizes) else 0,
            "largest": int(sizes.max(initial=0)),
            "num_pure": None if self.of_numbers else int(pure.sum()),
        }


@dataclass(frozen=True)
class Knowledge:
    """What a site knows of the labels of its training and validation examples.

    Args:
        kind: labels, bags or nothing.
        aggregates: for each split, its bags; several divisions of the same examples if they were
            drawn several times.
        confusion: P(label that is shown | label), (class, class), where labels were randomised.
        release: what the ledger is to have of its labels, as plain data; empty if nothing protects
            them. See `fedsim.data.label_releases`.
    """

    kind: Supervision = "labels"
    aggregates: Mapping[Split, tuple[Aggregates, ...]] = field(default_factory=dict)
    confusion: NDArray[np.float64] | None = None
    release: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return it as plain data: its kind, and for each split the first division into bags."""
        bags = {split: found[0].describe() for split, found in self.aggregates.items()}
        return {"knows": self.kind, "bags": bags}


@dataclass(frozen=True)
class Counts:
    """The bags of some sites together.

    Args:
        num_sites: that have some.
        num_bags: for training.
        size: examples in each, one number or the range of them.
        num_pure: training bags of one class alone; None of real numbers.
        num_validation: validation bags.
        fewest_validation: at one site.
    """

    num_sites: int
    num_bags: int
    size: str
    num_pure: int | None
    num_validation: int
    fewest_validation: int

    @property
    def pure_percent(self) -> float:
        """Share of pure bags among those for training."""
        return 100 * (self.num_pure or 0) / self.num_bags if self.num_bags else 0.0


def count(described: Mapping[str, Mapping[str, Any]]) -> Counts | None:
    """Return the bags of all sites that know bags; None if none does.

    Args:
        described: site -> `Knowledge.describe()`.
    """
    found = [known["bags"] for known in described.values() if known["knows"] == "bags"]
    if not found:
        return None
    train = [bags["train"] for bags in found]
    low, high = min(b["smallest"] for b in train), max(b["largest"] for b in train)
    pure = [bags["num_pure"] for bags in train]
    validation = [bags["validation"]["num_bags"] for bags in found]
    return Counts(
        num_sites=len(found),
        num_bags=sum(bags["num_bags"] for bags in train),
        size=f"{low}" if low == high else f"{low} to {high}",
        num_pure=None if None in pure else sum(pure),
        num_validation=sum(validation),
        fewest_validation=min(validation),
    )


@dataclass(frozen=True)
class Hidden:
    """What the simulator alone knows of a site that does not know all labels of its own.

    Args:
        test: the labels of its test images, by which models are judged: (example,), classes or
            real numbers.
        counts: examples per class, (class,), of the splits whose labels it does not know.
        truncated: of the splits whose real numbers were moved into a public range, how many were,
            see `fedsim.data.responses.truncated`.
    """

    test: Indices | Numbers
    counts: Mapping[Split, Indices] = field(default_factory=dict)
    truncated: Mapping[Split, Mapping[str, float]] = field(default_factory=dict)


def is_known(labels: Indices | Numbers) -> NDArray[np.bool_]:
    """Return which labels are known, (example,).

    >>> is_known(np.array([0, UNKNOWN])), is_known(np.array([-1.0, np.nan]))
    (array([ True, False]), array([ True, False]))
    """
    return ~np.isnan(labels) if labels.dtype.kind == "f" else labels != UNKNOWN


def unknown(labels: Indices | Numbers) -> Indices | Numbers:
    """Return as many labels of this kind that are not known: `UNKNOWN`, or nan."""
    return np.full_like(labels, np.nan if labels.dtype.kind == "f" else UNKNOWN)


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


def truncation(described: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what truncation did to the real numbers that bags are about; nothing if none was.

    Args:
        described: site -> as in the record of the population.
    """
    found = [part for known in described.values() for part in known.get("truncated", {}).values()]
    num = sum(part["num"] for part in found)
    if not num:
        return ""
    share = sum(part["num_moved"] for part in found) / num
    shift = sum(part["shift"] * part["num"] for part in found) / num
    return (
        f"{100 * share:.3g} % of the numbers in bags were outside their public range and moved to "
        f"its nearer end, which shifts their mean by {shift:+.3g} (known to the simulator alone)"
    )


def _bags_text(described: Mapping[str, Mapping[str, Any]]) -> str:
    counts = count(described)
    if counts is None:
        return ""
    pure = ""
    if counts.num_pure is not None and counts.num_bags:
        pure = f" ({counts.pure_percent:.0f} % of one class alone)"
    return (
        f"{counts.num_bags} training bags of {counts.size} images{pure} and "
        f"{counts.num_validation} validation bags"
    )
