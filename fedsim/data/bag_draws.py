"""How examples come into bags: by chance, by likeness, or by what groups them. Labels have no say.

>>> shown = Shown(5, {}, lambda: np.zeros((5, 1, 8, 8), np.uint8))
>>> Random().draw(shown, np.array([2, 3]), np.random.default_rng(0)).tolist()
[1, 1, 0, 1, 0]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.data.source import PATIENT, Texts
from fedsim.plugins import Part

Indices = NDArray[np.int64]
NO_BAG = -1
"""Number of the bag of an example that lies in none."""


@dataclass(frozen=True)
class Shown:
    """What may be looked at of the examples that come into bags: all but their labels.

    Args:
        num: n, how many.
        columns: what is known of each: column -> (n,), text.
        images: makes the images, (n, channel, height, width), as the source has them.
    """

    num: int
    columns: Mapping[str, Texts]
    images: Callable[[], NDArray[np.uint8]]


class BagDraw(Part, ABC):
    """A rule that puts the examples of a site into bags."""

    kind: str

    @property
    def needs_column(self) -> str | None:
        """What must be known of the images, if anything."""
        return None

    @abstractmethod
    def draw(self, shown: Shown, sizes: Indices, rng: np.random.Generator) -> Indices:
        """Return the bag of each example, (n,), from 0, or `NO_BAG`.

        Args:
            shown: the examples.
            sizes: that the bags should have, (bag,), together at most n.
            rng: the site's own stream.
        """


class Random(BagDraw):
    """Any examples of a site, drawn without replacement."""

    kind: Literal["random"] = "random"

    def draw(self, shown: Shown, sizes: Indices, rng: np.random.Generator) -> Indices:
        """Return bags of exactly these sizes."""
        return _in_turn(rng.permutation(shown.num), sizes)


class Similar(BagDraw):
    """Examples that look alike, known as curated bags: sorted by a feature of the image.

    Args:
        feature: the mean of the image's pixels, or their standard deviation.
    """

    kind: Literal["similar"] = "similar"
    feature: Literal["brightness", "contrast"] = Field(
        default="brightness", description="mean of an image's pixels, or their standard deviation"
    )

    def draw(self, shown: Shown, sizes: Indices, rng: np.random.Generator) -> Indices:
        """Return bags of exactly these sizes, equal features in random order."""
        flat = shown.images().reshape(shown.num, -1).astype(np.float64)
        values = flat.mean(axis=1) if self.feature == "brightness" else flat.std(axis=1)
        order = rng.permutation(shown.num)
        return _in_turn(order[np.argsort(values[order], kind="stable")], sizes)


class Grouped(BagDraw):
    """Whole groups, such as all images of a patient or of an examination.

    A bag takes one group after the other, in random order, until it has the size that it should
    have or more; what is left over at the end joins the last bag. An image whose group is not
    known (an empty text) is a group of its own.

    Args:
        column: what groups the images.
    """

    kind: Literal["grouped"] = "grouped"
    column: str = Field(default=PATIENT, description="column of the data that groups images")

    @property
    def needs_column(self) -> str | None:
        """What groups the images."""
        return self.column

    def draw(self, shown: Shown, sizes: Indices, rng: np.random.Generator) -> Indices:
        """Return bags of at least these sizes, as many as the groups fill; none stays outside."""
        num, names = shown.num, shown.columns[self.column]
        _, numbers = np.unique(names, return_inverse=True)
        groups = np.where(names == "", num + np.arange(num), numbers)
        bags, bag, filled = np.full(num, NO_BAG), 0, 0
        for group in rng.permutation(np.unique(groups)).tolist():
            if bag < len(sizes) - 1 and filled >= sizes[bag]:
                bag, filled = bag + 1, 0
            bags[groups == group] = bag
            filled += int((groups == group).sum())
        if bag and filled < sizes[bag]:
            bags[bags == bag] = bag - 1
        return bags


def _in_turn(order: Indices, sizes: Indices) -> Indices:
    """Return the bag of each example where bags are filled in an order of examples."""
    bags = np.full(len(order), NO_BAG)
    bags[order[: sizes.sum()]] = np.repeat(np.arange(len(sizes)), sizes)
    return bags


BUILTIN = (Random, Similar, Grouped)
