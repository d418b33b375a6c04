"""Wrong labels: what some sites' training examples are called by mistake.

Validation and test examples keep their labels, so that results are measured against the truth.

>>> Neighbour(rate=0.5).confusion(3)
array([[0. , 1. , 0. ],
       [0.5, 0. , 0.5],
       [0. , 1. , 0. ]])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from fedsim.plugins import Part

Rate = Annotated[float, Field(ge=0, le=1)]


class LabelNoise(Part, ABC):
    """A rule that mislabels a share of the training examples of some sites.

    Args:
        rate: share of a site's training examples that are mislabelled; or two numbers, between
            which each site draws its own.
        sites: names of the sites; all if not given.
    """

    kind: str
    rate: Rate | Annotated[tuple[Rate, ...], Field(min_length=2, max_length=2)]
    sites: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @field_validator("rate")
    @classmethod
    def _ascending(cls, rate: float | tuple[float, ...]) -> float | tuple[float, ...]:
        if isinstance(rate, tuple) and rate[0] > rate[1]:
            raise ValueError(f"expected the lower rate first, got {list(rate)}")
        return rate

    @abstractmethod
    def confusion(self, num_classes: int) -> NDArray[np.float64]:
        """Return what an example is taken for if it is mislabelled, (true class, class).

        Rows sum to 1 with 0 on the diagonal; a row of zeros is a class that is never mislabelled.
        """

    def mislabel(
        self, labels: NDArray[np.int64], num_classes: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return a site's labels with mistakes.

        Args:
            labels: of the site's training examples, (n,).
            num_classes: of the task.
            rng: the site's own stream.
        """
        confusion = self.confusion(num_classes)
        low, high = self.rate if isinstance(self.rate, tuple) else (self.rate, self.rate)
        wrong = rng.random(len(labels)) < rng.uniform(low, high)
        wrong &= confusion.sum(axis=1)[labels] > 0
        where = rng.random((len(labels), 1))
        mistaken = (where > confusion.cumsum(axis=1)[labels]).sum(axis=1)
        return np.where(wrong, np.minimum(mistaken, num_classes - 1), labels)


class Symmetric(LabelNoise):
    """Taken for any other class alike."""

    kind: Literal["symmetric"] = "symmetric"

    def confusion(self, num_classes: int) -> NDArray[np.float64]:
        """Return equal chances for all other classes."""
        others: NDArray[np.float64] = 1 - np.eye(num_classes)
        return others / (num_classes - 1)


class Neighbour(LabelNoise):
    """Taken for the next lower or higher class, as grades are."""

    kind: Literal["neighbour"] = "neighbour"

    def confusion(self, num_classes: int) -> NDArray[np.float64]:
        """Return equal chances for the classes beside."""
        beside = np.eye(num_classes, k=1) + np.eye(num_classes, k=-1)
        chances: NDArray[np.float64] = beside / beside.sum(axis=1, keepdims=True)
        return chances


class Mistaken(LabelNoise):
    """Some classes are taken for certain others, such as a disease that is overlooked.

    Args:
        mistakes: class -> the class that it is taken for.
    """

    kind: Literal["mistaken"] = "mistaken"
    mistakes: dict[int, int] = Field(min_length=1)

    def confusion(self, num_classes: int) -> NDArray[np.float64]:
        """Return certainty for the class that is given."""
        chances = np.zeros((num_classes, num_classes))
        for true, taken in self.mistakes.items():
            chances[true, taken] = 1
        return chances


BUILTIN = (Symmetric, Neighbour, Mistaken)
