"""Your own arrays in an npz file, with the names that you gave them.

>>> source = Npz(path="study.npz", images="x", labels="y", columns={"site": "hospital"})
>>> source.path.name, source.columns
('study.npz', {'site': 'hospital'})
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fedsim.data import names, npz_file
from fedsim.data.array_hash import array_hash
from fedsim.data.classes import numbered
from fedsim.data.manifest import SPLIT_WORDS, ClassNames
from fedsim.data.npz_file import Array
from fedsim.data.source import (
    SPLITS,
    Dataset,
    Facts,
    Numbers,
    Source,
    Split,
    Texts,
    in_natural_order,
)
from fedsim.errors import DataError
from fedsim.location import Location

if TYPE_CHECKING:
    from fedsim.seeds import Streams

Key = str | dict[Split, str]


class Npz(Source):
    """Your own arrays: images, labels and, if you like, site, patient and split of each.

    Images are (n, height, width), (n, height, width, channel) or (n, channel, height, width),
    square, with one channel or three; uint8, uint16 (scaled to 8 bits) or floats from 0 to 1. Every
    name of an array may also be a section with one name per split: {train: ..., test: ...}.

    Args:
        kind: "npz".
        path: the file.
        images: name of the array of images.
        labels: name of the array of labels, (n,): whole numbers 0, 1, 2, ..., or texts.
        columns: what else is known -> name of its array, (n,), such as {site: hospital}.
        targets: real numbers that may be learned in place of the classes -> name of their array,
            (n,), such as {ejection_fraction: ef}.
        splits: name of an array of train, validation and test, (n,), if there is one.
        class_names: the classes in the order of their numbers, or the texts in their order.
        ordinal: whether the classes are grades in ascending order.
        licence: of the images, for the record.
        citation: BibTeX to cite, for the record.
    """

    kind: Literal["npz"] = "npz"
    path: Location
    images: Key
    labels: Key
    columns: dict[str, Key] = Field(default_factory=dict)
    targets: dict[str, Key] = Field(default_factory=dict)
    splits: str | None = None
    class_names: ClassNames | None = None
    ordinal: bool = False
    licence: str = ""
    citation: str = ""

    @model_validator(mode="after")
    def _alike(self) -> Npz:
        """Refuse names per split for some arrays alone."""
        keys = (self.images, self.labels, *self.columns.values(), *self.targets.values())
        forms = {frozenset(key) if isinstance(key, dict) else None for key in keys}
        if len(forms) > 1:
            raise ValueError(
                "images, labels, columns and targets must all name one array, or one per split"
            )
        (form,) = forms
        if form is not None and self.splits is not None:
            raise ValueError("give `splits`, or one name per split, not both")
        if form is not None and "train" not in form:
            raise ValueError("names per split must include train")
        return self

    def facts(self) -> Facts:
        """Return what labels, columns and the headers of the images say."""
        parts = self._parts()
        forms = {_form(self.path, part.images) for part in parts.values()}
        if len(forms) > 1:
            raise DataError(f"{self.path}: the images of the splits differ in size or channels")
        num_channels, image_size = forms.pop()
        return Facts(
            num_channels=num_channels,
            image_size=image_size,
            class_names=self._classes(parts),
            ordinal=self.ordinal,
            num_examples={split: len(part.labels) for split, part in parts.items()},
            licence=self.licence,
            citation=self.citation,
            columns={
                name: in_natural_order(v for part in parts.values() for v in part.columns[name])
                for name in self.columns
            },
            targets=dict.fromkeys(self.targets, ""),
        )

    def open(self, streams: Streams) -> Dataset:
        """Return labels and images."""
        parts = self._parts()
        classes = self._classes(parts)
        labels = {split: self._numbers(part.labels, classes) for split, part in parts.items()}
        pixels = {part.images: _pixels(self.path, part.images) for part in parts.values()}

        def images(split: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
            part = parts[split]
            return np.array(pixels[part.images][part.positions[indices]])

        columns = {
            name: {split: part.columns[name] for split, part in parts.items()}
            for name in self.columns
        }
        used: dict[str, Array] = {f"images {key}": found for key, found in pixels.items()}
        used |= {f"labels {split}": found for split, found in labels.items()}
        used |= {f"positions {split}": part.positions for split, part in parts.items()}
        for name, by_split in columns.items():
            used |= {f"column {name} {split}": values for split, values in by_split.items()}
        for split, part in parts.items():
            used |= {f"target {name} {split}": values for name, values in part.targets.items()}
        checksums = {self.path.name: f"arrays-sha256:{array_hash(used)}"}
        return Dataset(
            labels,
            images,
            checksums,
            columns,
            {name: partial(_of_target, parts, name) for name in self.targets},
        )

    def _parts(self) -> dict[str, Part]:
        """Return the parts of the data: the splits, or all as "all"."""
        if isinstance(self.images, dict):
            return {split: self._part(split) for split in SPLITS if split in self.images}
        whole = self._part(None)
        if self.splits is None:
            return {"all": whole}
        words = [w.strip().lower() for w in _texts(self.path, self.splits, len(whole.labels))]
        if strange := sorted(set(words) - set(SPLIT_WORDS)):
            raise DataError(
                f"{self.path}: {self.splits} has {', '.join(map(repr, strange[:3]))}, expected "
                "train, validation and test"
            )
        splits = np.array([SPLIT_WORDS[word] for word in words])
        if "train" not in splits:
            raise DataError(f"{self.path}: {self.splits} has no example for training")
        return {s: whole.only(np.flatnonzero(splits == s)) for s in SPLITS if s in splits}

    def _part(self, split: Split | None) -> Part:
        """Return the arrays of a split, or those that hold everything."""

        def name(key: Key) -> str:
            return key if isinstance(key, str) else key[split or "train"]

        images, labels = name(self.images), _flat(self.path, name(self.labels))
        num = len(labels)
        if not num:
            raise DataError(
                f"{self.path}: {name(self.labels)} is empty, expected a label per image"
            )
        if (found := npz_file.header(self.path, images)[0][:1]) != (num,):
            raise DataError(
                f"{self.path}: {images} has {found} images, but {name(self.labels)} {num} labels"
            )
        columns = {n: _texts(self.path, name(key), num) for n, key in self.columns.items()}
        targets = {n: _numbers(self.path, name(key), num) for n, key in self.targets.items()}
        return Part(images, np.arange(num), labels, columns, targets)

    def _classes(self, parts: Mapping[str, Part]) -> tuple[str, ...]:
        """Return the names of the classes.

        Raises:
            DataError: if there are labels that are none of them.
        """
        where = f"{self.path}: {_names(self.labels)}"
        if len({part.labels.dtype.kind == "U" for part in parts.values()}) > 1:
            raise DataError(f"{where} are texts for some splits and numbers for others")
        labels = np.unique(np.concatenate([part.labels for part in parts.values()]))
        if labels.dtype.kind == "U":
            classes = self.class_names or names.checked(labels.tolist(), where)
            numbered(labels.tolist(), classes, where)
            return classes
        num = len(self.class_names or labels)
        if not 0 <= labels[0] <= labels[-1] < num:
            why = (
                f"for class_names has {num} classes"
                if self.class_names
                else f"for there are {num} different ones: renumber them, or give class_names"
            )
            raise DataError(
                f"{where} has labels from {labels[0]} to {labels[-1]}, expected 0 to {num - 1}, "
                f"{why}"
            )
        return self.class_names or tuple(map(str, range(num)))

    def _numbers(self, labels: Array, classes: tuple[str, ...]) -> NDArray[np.int64]:
        if labels.dtype.kind == "U":
            return numbered(labels.tolist(), classes, str(self.path))
        return labels.astype(np.int64)


@dataclass(frozen=True)
class Part:
    """Some examples of the file.

    Args:
        images: name of the array that holds their images.
        positions: where in it, (n,).
        labels: (n,), whole numbers or texts.
        columns: column -> (n,), text.
        targets: target -> (n,), float32.
    """

    images: str
    positions: NDArray[np.int64]
    labels: Array
    columns: Mapping[str, Texts]
    targets: Mapping[str, Numbers]

    def only(self, chosen: NDArray[np.int64]) -> Part:
        """Return some of the examples."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        targets = {name: values[chosen] for name, values in self.targets.items()}
        return Part(self.images, self.positions[chosen], self.labels[chosen], columns, targets)


def _of_target(parts: Mapping[str, Part], name: str) -> dict[str, Numbers]:
    return {split: part.targets[name] for split, part in parts.items()}


def _names(key: Key) -> str:
    """Return the names of the arrays that a key stands for."""
    return key if isinstance(key, str) else " and ".join(key.values())


def _form(path: Path, key: str) -> tuple[int, int]:
    """Return channels and size of the images in an array.

    Raises:
        DataError: if they are no square images of one channel or three.
    """
    shape, dtype = npz_file.header(path, key)
    if dtype.kind not in "uf" or (dtype.kind == "u" and dtype.itemsize > 2):
        raise DataError(f"{path}: {key} is {dtype}, expected uint8, uint16 or floats from 0 to 1")
    match shape[1:]:
        case (height, width) if height == width:
            return 1, height
        case (height, width, 1 | 3 as channels) if height == width:
            return channels, height
        case (1 | 3 as channels, height, width) if height == width:
            return channels, height
    raise DataError(
        f"{path}: {key} has the shape {shape}, expected (n, size, size), (n, size, size, 1 or 3) "
        "or (n, 1 or 3, size, size): crop or pad the images to squares"
    )


def _pixels(path: Path, key: str) -> NDArray[np.uint8]:
    """Return images, (n, channel, size, size), uint8; shared, not to be written to."""
    return _converted(path, key, npz_file.stamp(path))


@lru_cache(maxsize=4)
def _converted(path: Path, key: str, stamp: tuple[int, int]) -> NDArray[np.uint8]:
    num_channels, _ = _form(path, key)
    found = _eight_bits(path, key, npz_file.array(path, key))
    if found.ndim == 3:
        found = found[:, None]
    elif found.shape[1] != num_channels or found.shape[2] != found.shape[3]:
        found = found.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(found)


def _eight_bits(path: Path, key: str, found: Array) -> NDArray[np.uint8]:
    """Return pixels of any form, with uint16 and floats from 0 to 1 scaled to 0 to 255.

    Raises:
        DataError: if there are other floats.
    """
    if found.dtype.kind == "f":
        if num_odd := found.size - int(np.isfinite(found).sum()):
            raise DataError(
                f"{path}: {key} has {num_odd} values that are infinite or not a number, expected "
                "floats from 0 to 1: replace them"
            )
        if found.min() < 0 or found.max() > 1:
            raise DataError(
                f"{path}: {key} has floats from {found.min():g} to {found.max():g}, expected 0 to "
                "1: divide them by the largest value that they can have"
            )
        wide = found.astype(np.result_type(found, np.float32), copy=False)
        return (wide * 255 + 0.5).astype(np.uint8)
    if found.dtype.itemsize == 2:
        return (found / 257 + 0.5).astype(np.uint8)
    return found


def _texts(path: Path, key: str, num: int) -> Texts:
    """Return a column of text, one for each of `num` examples."""
    found = _flat(path, key)
    if len(found) != num:
        raise DataError(f"{path}: {key} has {len(found)} entries for {num} examples")
    return found.astype(np.str_)


def _numbers(path: Path, key: str, num: int) -> Numbers:
    """Return real numbers, one for each of `num` examples."""
    found = npz_file.array(path, key)
    if found.dtype.kind not in "iuf" or found.shape not in ((num,), (num, 1)):
        raise DataError(
            f"{path}: {key} is {found.dtype} {found.shape}, expected a number for each of {num} "
            "examples"
        )
    with np.errstate(over="ignore"):
        numbers = found.reshape(-1).astype(np.float32)
    if num_odd := num - int(np.isfinite(numbers).sum()):
        raise DataError(
            f"{path}: {key} has {num_odd} values that are infinite or not a number: replace them"
        )
    return numbers


def _flat(path: Path, key: str) -> Array:
    """Return whole numbers or texts, (n,); shared, not to be written to."""
    return _flattened(path, key, npz_file.stamp(path))


@lru_cache(maxsize=32)
def _flattened(path: Path, key: str, stamp: tuple[int, int]) -> Array:
    found = npz_file.array(path, key)
    if (
        found.dtype.kind not in "iubUS"
        or found.ndim not in (1, 2)
        or found.shape[1:] not in ((), (1,))
    ):
        raise DataError(
            f"{path}: {key} is {found.dtype} {found.shape}, expected whole numbers or texts, (n,)"
        )
    flat = found.reshape(-1)
    with npz_file.readable(path, key):
        if flat.dtype.kind == "S":
            return np.char.decode(flat, "utf-8")
    if flat.dtype.kind == "U" and not _are_characters(flat):
        raise DataError(f"{path}: {key} has numbers that stand for no character: write it anew")
    return flat


def _are_characters(texts: Array) -> bool:
    """Return whether texts hold characters alone; numpy takes any 32 bits for one."""
    codes = texts.astype(texts.dtype.newbyteorder("=")).view(np.uint32)
    return not ((codes > sys.maxunicode) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any()
