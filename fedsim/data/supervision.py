"""What sites know of their labels: each one, only aggregates of bags, or nothing.

Label noise comes first: what is aggregated are the labels that a site believes. Bags are drawn once
for a run, inside one split of one site.

>>> InBags(bag_size=4).sizes(10, np.random.default_rng(0)).tolist()
[5, 5]
>>> InBags(bag_size=4, remainder="keep").sizes(10, np.random.default_rng(0)).tolist()
[4, 4, 2]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from clients.objectives.base import Supervision as Kind
from fedsim.data import bag_draws, responses
from fedsim.data.aggregates import Aggregates, Knowledge, unknown
from fedsim.data.bag_draws import NO_BAG, BagDraw, Random, Shown
from fedsim.data.source import Numbers, Split
from fedsim.errors import InputError
from fedsim.plugins import Part, load, union
from fedsim.privacy import label
from fedsim.privacy.label import (
    LabelPrivacy,
    LabelRelease,
    RandomisedResponse,
    Truncation,
    project,
)
from fedsim.privacy.mechanism import digest

Indices = NDArray[np.int64]
Size = Annotated[int, Field(ge=1)]
Stream = Callable[[str], np.random.Generator]
"""Purpose -> the site's own stream for it."""
BAG_DRAWS = load("bag_draws", bag_draws.BUILTIN, BagDraw)
LABEL_PRIVACIES = load("label_privacies", label.BUILTIN, LabelPrivacy)
if TYPE_CHECKING:
    AnyBagDraw = BagDraw
    AnyLabelPrivacy = LabelPrivacy
else:
    AnyBagDraw = union(BAG_DRAWS)
    AnyLabelPrivacy = union(LABEL_PRIVACIES)


@dataclass(frozen=True)
class Held:
    """The examples of one split of a site.

    Args:
        labels: classes, (n,), as the site would know them.
        shown: all else.
        targets: real numbers that are learned in place of the classes, (n,), if they are.
    """

    labels: Indices
    shown: Shown
    targets: Numbers | None = None

    @property
    def truth(self) -> Indices | Numbers:
        """What is learned, (n,)."""
        return self.labels if self.targets is None else self.targets


@dataclass(frozen=True)
class Taught:
    """What a site knows of its training and validation examples.

    Args:
        knowledge: beside its labels.
        labels: for each split, (n,), classes or real numbers; `UNKNOWN`, or nan, where one is not
            known.
        chosen: for each split, whether an example is used at all, (n,); all if a split is missing.
        truncated: what the simulator alone knows of numbers that were moved, by split.
    """

    knowledge: Knowledge
    labels: Mapping[Split, Indices | Numbers]
    chosen: Mapping[Split, NDArray[np.bool_]]
    truncated: Mapping[Split, Mapping[str, float]] = field(default_factory=dict)


class Supervision(Part, ABC):
    """A kind of knowledge of labels, and the sites that have it.

    Args:
        sites: their names; or `rest`, all that no other entry names.
    """

    kind: str
    gives: ClassVar[Kind] = "labels"
    """What its sites know."""
    sites: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["rest"] = Field(
        default="rest", description="names of sites; default: all that no other entry names"
    )

    @property
    def tells_all(self) -> bool:
        """Whether nothing is taken from what a site knows."""
        return False

    @abstractmethod
    def teach(self, held: Mapping[Split, Held], num_classes: int, stream: Stream) -> Taught:
        """Return what a site knows.

        Args:
            held: its training and validation examples.
            num_classes: of the task.
            stream: of the site's random numbers.
        """


class Labels(Supervision):
    """A label of every example, or of a few.

    Args:
        per_class: training examples of each class whose label is known; the others are not used.
        label_privacy: randomised response, by which every label is told, but not always the true
            one; the objective `forward_corrected` takes its mistakes into account.
    """

    kind: Literal["labels"] = "labels"
    per_class: Size | None = Field(
        default=None, description="training examples of each class with a label; default: all"
    )
    label_privacy: RandomisedResponse | None = Field(
        default=None, description="randomised_response; default: the labels as they are"
    )

    @model_validator(mode="after")
    def _choose_by_no_label_that_is_protected(self) -> Labels:
        if self.label_privacy is not None and self.per_class is not None:
            raise ValueError(
                "per_class chooses by the true labels, which label_privacy is to protect: give one "
                "of them"
            )
        return self

    @property
    def tells_all(self) -> bool:
        """Whether every label is told as it is."""
        return self.label_privacy is None and self.per_class is None

    def teach(self, held: Mapping[Split, Held], num_classes: int, stream: Stream) -> Taught:
        """Return the labels, randomised if asked."""
        chosen: dict[Split, NDArray[np.bool_]] = {}
        if self.per_class is not None:
            chosen["train"] = _few(held["train"].labels, self.per_class, stream("few_labels"))
        mechanism = self.label_privacy
        if mechanism is None:
            labels = {split: part.truth for split, part in held.items()}
            return Taught(Knowledge(), labels, chosen)
        told = {
            split: mechanism.mislabel(part.labels, num_classes, stream(f"label_privacy_{split}"))
            for split, part in held.items()
        }
        knowledge = Knowledge(
            confusion=mechanism.confusion(num_classes),
            release=_described(mechanism, mechanism.event(num_classes)),
        )
        return Taught(knowledge, told, chosen)


class Unlabelled(Supervision):
    """No label at all."""

    kind: Literal["unlabelled"] = "unlabelled"
    gives: ClassVar[Kind] = "nothing"

    def teach(self, held: Mapping[Split, Held], num_classes: int, stream: Stream) -> Taught:
        """Return nothing."""
        return Taught(Knowledge("nothing"), _unknown(held), {})


class InBags(Supervision):
    """The aggregate label of bags of examples: of these 32 films, 11 show pneumonia.

    Args:
        bag_size: examples in a bag; or two numbers, between which each bag draws its own.
        draw: how examples come into bags.
        remainder: what happens to examples too few for a bag: spread over the others, so that none
            is smaller than asked for; kept as a smaller bag; or dropped.
        min_bag_size: smaller bags are not released and their examples not used. A rule of
            k-anonymity, not differential privacy.
        num_draws: how often all examples are divided into bags anew; each pass of training uses one
            of the divisions, and label privacy costs as many times.
        response: what is told of a bag: the proportions of its classes; the mean of a real number;
            or the highest class in it alone, a set-level label such as the worst grade of an
            examination.
        truncation: of a real number, a public range into which those outside are moved before
            anything is told; a bias, without which no noise could hide one of them.
        label_privacy: noise on what the bags tell.
        project: whether noisy responses are moved to the nearest that labels could give; a bias,
            where the noise has none.
    """

    kind: Literal["bags"] = "bags"
    gives: ClassVar[Kind] = "bags"
    bag_size: Size | Annotated[tuple[Size, ...], Field(min_length=2, max_length=2)] = Field(
        description="examples in a bag, or the smallest and the largest size"
    )
    draw: AnyBagDraw = Field(default=Random(), description="how examples come into bags")
    remainder: Literal["spread", "keep", "drop"] = Field(
        default="spread",
        description="examples too few for a bag: spread over the others, keep as a smaller bag, "
        "or drop",
    )
    min_bag_size: Size = Field(
        default=1, description="smaller bags are not released (k-anonymity, not privacy proper)"
    )
    num_draws: Size = Field(
        default=1, description="times that all examples are divided into bags anew"
    )
    response: Literal["proportions", "mean", "highest"] = Field(
        default="proportions",
        description="what is told of a bag: proportions of classes, or the highest class in it; of "
        "a regression, by default, the mean",
    )
    truncation: Truncation | None = Field(
        default=None,
        description="of a regression: public range into which numbers outside are moved, in their "
        "unit; label_privacy needs one",
    )
    label_privacy: AnyLabelPrivacy | None = Field(
        default=None, description="noise on what bags tell; default: none"
    )
    project: bool = Field(
        default=True, description="move noisy responses to the nearest that labels could give"
    )

    @field_validator("bag_size")
    @classmethod
    def _ascending(cls, bag_size: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(bag_size, tuple) and bag_size[0] > bag_size[1]:
            raise ValueError(f"expected the smaller size first, got {list(bag_size)}")
        return bag_size

    @model_validator(mode="after")
    def _all_in_bags_if_redrawn(self) -> InBags:
        if self.num_draws > 1 and (self.remainder == "drop" or self.min_bag_size > 1):
            raise ValueError(
                "num_draws above 1 needs every example in a bag: use remainder: spread or keep, "
                "and no min_bag_size"
            )
        return self

    @model_validator(mode="after")
    def _noise_on_means(self) -> InBags:
        if self.label_privacy is not None and self.response == "highest":
            raise ValueError(
                "label_privacy is noise on proportions or means: use response: proportions (of a "
                "regression, mean), or leave it out"
            )
        return self

    def teach(self, held: Mapping[Split, Held], num_classes: int, stream: Stream) -> Taught:
        """Return bags and their aggregates.

        Raises:
            InputError: if noise should hide real numbers of which no range is given.
        """
        of_numbers = held["train"].targets is not None
        if of_numbers and self.label_privacy is not None and self.truncation is None:
            raise InputError("label_privacy of real numbers needs their public range: truncation")
        aggregates: dict[Split, tuple[Aggregates, ...]] = {}
        chosen: dict[Split, NDArray[np.bool_]] = {}
        truncated: dict[Split, Mapping[str, float]] = {}
        for split, part in held.items():
            rng = stream(f"bags_{split}")
            divisions = [self._divide(part, rng) for _ in range(self.num_draws)]
            inside = divisions[0] != NO_BAG
            truth, noise = part.truth[inside], stream(f"label_privacy_{split}")
            if of_numbers and self.truncation is not None:
                truth, truncated[split] = responses.truncated(truth, self.truncation)
            aggregates[split] = tuple(
                Aggregates(bags[inside], self._tell(truth, bags[inside], num_classes, noise))
                for bags in divisions
            )
            chosen[split] = inside
        knowledge = Knowledge("bags", aggregates, release=self._release(num_classes, of_numbers))
        return Taught(knowledge, _unknown(held), chosen, truncated)

    def sizes(self, num: int, rng: np.random.Generator) -> Indices:
        """Return the sizes of bags of `num` examples, (bag,), together `num` or less."""
        low, high = self.bag_size if isinstance(self.bag_size, tuple) else (self.bag_size,) * 2
        drawn = rng.integers(low, high + 1, size=num // low)
        sizes = drawn[drawn.cumsum() <= num]
        rest = num - int(sizes.sum())
        if not rest or self.remainder == "drop":
            return sizes
        if self.remainder == "keep" or not len(sizes):
            return np.append(sizes, rest)
        each, more = divmod(rest, len(sizes))
        return sizes + each + (np.arange(len(sizes)) < more)

    def _divide(self, held: Held, rng: np.random.Generator) -> Indices:
        """Return the bag of each example, bags that are released numbered from 0."""
        num = len(held.labels)
        bags = self.draw.draw(held.shown, self.sizes(num, rng), rng)
        names, sizes = np.unique(bags[bags != NO_BAG], return_counts=True)
        released = np.isin(bags, names[sizes >= self.min_bag_size])
        numbered = np.full(num, NO_BAG)
        numbered[released] = np.unique(bags[released], return_inverse=True)[1]
        return numbered

    def _tell(
        self, truth: NDArray[Any], bags: Indices, num_classes: int, noise: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return what is told of bags, (bag, class), or of real numbers (bag, 1)."""
        if truth.dtype.kind == "f":
            return self._mean(truth, bags, noise)[:, None].astype(np.float32)
        counts = responses.class_counts(truth, bags, num_classes)
        sizes = counts.sum(axis=1)
        told: NDArray[np.float64] = counts / sizes[:, None]
        if self.response == "highest":
            told = responses.highest(counts)
        elif self.label_privacy is not None:
            told = self.label_privacy.release(counts, sizes, noise)
            told = project(told) if self.project else told
        return told.astype(np.float32)

    def _mean(
        self, numbers: NDArray[np.float64], bags: Indices, noise: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return what is told of real numbers in bags, (bag,), in their unit."""
        told = responses.means(numbers, bags)
        if self.label_privacy is None or self.truncation is None:
            return told
        told = self.label_privacy.release_means(told, np.bincount(bags), self.truncation, noise)
        return self.truncation.truncate(told)[0] if self.project else told

    def _release(self, num_classes: int, of_numbers: bool) -> dict[str, Any]:
        """Return what protects the labels, as plain data; nothing if nothing does."""
        mechanism = self.label_privacy
        if mechanism is None:
            return {}
        if of_numbers and self.truncation is not None:
            return _described(mechanism, mechanism.event_of_means(self.truncation, self.num_draws))
        return _described(mechanism, mechanism.event(num_classes, self.num_draws))


def _few(labels: Indices, per_class: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which examples are among the first of their class in a random order, (n,)."""
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), np.int64)
    for number in np.unique(labels):
        rank[order[labels[order] == number]] = np.arange((labels == number).sum())
    return rank < per_class


def _described(mechanism: Part, release: LabelRelease) -> dict[str, Any]:
    """Return what the ledger is to have of labels, as plain data."""
    from fedsim.privacy.events import to_data

    return {
        "what": release.what,
        "public": release.public,
        "relation": release.relation,
        "digest": digest(mechanism),
        "event": to_data(release.event),
    }


def _unknown(held: Mapping[Split, Held]) -> dict[Split, Indices | Numbers]:
    return {split: unknown(part.truth) for split, part in held.items()}


BUILTIN = (Labels, InBags, Unlabelled)
