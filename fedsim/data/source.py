"""What every data source is: where images and labels come from, before any site is formed."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fedsim.plugins import Part

if TYPE_CHECKING:
    from fedsim.seeds import Streams

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
HELD_OUT: tuple[Split, ...] = ("validation", "test")

SITE, PATIENT = "site", "patient"
"""Columns with a meaning: the hospital an image is from, and whose image it is. A patient is never
divided over sites or splits. Others are attributes, such as sex or scanner."""

POOLED = "pooled"
"""What stands in place of a site's name where the images of all sites are meant."""

Texts = NDArray[np.str_]
Numbers = NDArray[np.float32]
Columns = Mapping[str, Mapping[str, Texts]]
"""Column -> split of the source -> the value of each example, (n,), text."""


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without reading it.

    Args:
        num_channels: 1 (grey) or 3 (colour).
        image_size: height and width in pixels.
        class_names: one name per class of the source, in the order of its labels.
        ordinal: whether the classes are grades in ascending order.
        num_examples: examples per official split, or {"all": n} if the source has none.
        licence: the licence of the images; empty if nothing is known of it.
        citation: BibTeX to cite when the images are used; empty for embedded data.
        columns: what else is known of each image: column -> its distinct values in natural order.
        targets: real numbers that may be learned in place of the class: name -> unit, empty if not
            known.
        synthetic: whether the images were made by a program and show no patient.
    """

    num_channels: int
    image_size: int
    class_names: tuple[str, ...]
    ordinal: bool
    num_examples: Mapping[str, int]
    licence: str
    citation: str = ""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    synthetic: bool = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channel, height, width)."""
        return self.num_channels, self.image_size, self.image_size

    @property
    def has_official_splits(self) -> bool:
        """Whether the publisher divided the images into train, validation and test."""
        return "all" not in self.num_examples


@dataclass(frozen=True)
class Dataset:
    """An opened source.

    Args:
        labels: for each split of the source (an official one, or "all") the labels, (n,), int64.
        images: function (split, indices) -> images, (n, channel, height, width), uint8, a fresh
            array that the caller may keep.
        checksums: what identifies the data: file or generator name -> checksum.
        columns: those that `Facts.columns` names.
        targets: those that `Facts.targets` names -> function that returns for each split the number
            of each example, (n,), float32, all finite.
    """

    labels: Mapping[str, NDArray[np.int64]]
    images: Callable[[str, NDArray[np.int64]], NDArray[np.uint8]]
    checksums: Mapping[str, str] = field(default_factory=dict)
    columns: Columns = field(default_factory=dict)
    targets: Mapping[str, Callable[[], Mapping[str, Numbers]]] = field(default_factory=dict)


class Source(Part, ABC):
    """A data source named in a scenario."""

    public: ClassVar[bool] = False
    """Whether anyone may see the images, so that a report may show some of them."""
    kind: str

    @abstractmethod
    def facts(self) -> Facts:
        """Return what is known without reading or generating any image.

        Raises:
            DataError: if it stands in a file that is missing or not as declared.
        """

    def is_local(self) -> bool:
        """Return whether the data are on this computer, so that `open` finds them."""
        return True

    @abstractmethod
    def open(self, streams: Streams) -> Dataset:
        """Return labels and a way to get the images.

        Raises:
            DataError: if the data are missing, damaged or not as declared.
        """


def in_natural_order(values: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct values, with numbers inside them in numerical order.

    >>> in_natural_order(["site 10", "site 2", "Basel", "site 2"])
    ('Basel', 'site 2', 'site 10')
    """

    def part(text: str) -> tuple[bool, int, str, str]:
        digits = text.lstrip("0")  # the number with more of them is larger
        number = text[0] in "0123456789"
        return (False, len(digits), digits, text) if number else (True, 0, "", text)

    def key(value: str) -> tuple[list[tuple[bool, int, str, str]], str]:
        return [part(text) for text in re.findall(r"[0-9]+|[^0-9]+", value)], value

    return tuple(sorted(set(values), key=key))
