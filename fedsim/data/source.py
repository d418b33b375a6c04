"""What every data source is: where images and labels come from, before any site is formed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fedsim.plugins import Part

if TYPE_CHECKING:
    from fedsim.seeds import Streams

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without reading it.

    Args:
        num_channels: 1 (grey) or 3 (colour).
        image_size: height and width in pixels.
        class_names: one name per class of the source, in the order of its labels.
        ordinal: whether the classes are grades in ascending order.
        num_examples: examples per official split, or {"all": n} if the source has none.
        licence: the licence of the images.
        citation: BibTeX to cite when the images are used; empty for embedded data.
    """

    num_channels: int
    image_size: int
    class_names: tuple[str, ...]
    ordinal: bool
    num_examples: Mapping[str, int]
    licence: str
    citation: str = ""

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
    """

    labels: Mapping[str, NDArray[np.int64]]
    images: Callable[[str, NDArray[np.int64]], NDArray[np.uint8]]
    checksums: Mapping[str, str] = field(default_factory=dict)


class Source(Part, ABC):
    """A data source named in a scenario."""

    kind: str

    @abstractmethod
    def facts(self) -> Facts:
        """Return what is known without reading or generating anything."""

    def is_local(self) -> bool:
        """Return whether `open` needs no download."""
        return True

    @abstractmethod
    def open(self, streams: Streams) -> Dataset:
        """Return labels and a way to get the images.

        Raises:
            DataError: if the data are missing, damaged or not as declared.
        """
