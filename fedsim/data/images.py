"""Pictures in a folder, listed in a CSV manifest or sorted into folders by site and class.

A manifest has one line per picture, `path,label,site[,patient,split]`, and may have columns more,
such as sex or scanner. Folders are site/split/class/*, site/class/*, split/class/* or class/*.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.data import manifest, names, pictures
from fedsim.data.cache import load_or_make
from fedsim.data.classes import numbered
from fedsim.data.manifest import ClassNames
from fedsim.data.source import SPLITS, Dataset, Facts, Numbers, Source, in_natural_order
from fedsim.errors import DataError
from fedsim.location import Location

if TYPE_CHECKING:
    from fedsim.data.manifest import Manifest, Row
    from fedsim.seeds import Streams

VERSION = 2
"""Of what is done to a picture; to be raised whenever that changes."""
PICTURES_AT_ONCE = 128
_log = logging.getLogger("fedsim")


class Images(Source):
    """Your own pictures, read when they are needed and kept in the cache at their final size.

    Args:
        kind: "images".
        path: a CSV manifest (path,label,site[,patient,split]) or a folder (site/split/class/*).
        root: folder that the manifest's paths are relative to; its own folder if not given.
        image_size: height and width in pixels that pictures are brought to.
        num_channels: 1 (grey) or 3 (colour).
        fit: how a picture that is not square becomes so: black bars, its centre, or stretched.
        class_names: the labels in their order; in natural order if not given.
        ordinal: whether the classes are grades in ascending order.
        targets: columns of the manifest that hold real numbers, which may be learned in place of
            the classes.
        licence: of the pictures, for the record.
        citation: BibTeX to cite, for the record.
    """

    kind: Literal["images"] = "images"
    path: Location
    root: Location | None = None
    image_size: int = Field(ge=16, le=1024)
    num_channels: Literal[1, 3] = 1
    fit: pictures.Fit = "pad"
    class_names: ClassNames | None = None
    ordinal: bool = False
    targets: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""

    def facts(self) -> Facts:
        """Return what the manifest or the folders say, without reading a picture."""
        listed = self._manifest()
        splits = _by_split(listed)
        return Facts(
            num_channels=self.num_channels,
            image_size=self.image_size,
            class_names=self._classes(listed),
            ordinal=self.ordinal,
            num_examples={split: len(rows) for split, rows in splits.items()},
            licence=self.licence,
            citation=self.citation,
            columns={
                name: in_natural_order(row.columns[name] for row in listed.rows)
                for name in self._texts(listed)
            },
            targets=dict.fromkeys(self.targets, ""),
        )

    def open(self, streams: Streams) -> Dataset:
        """Return the labels and a way to read the pictures, a block of the manifest at a time."""
        listed = self._manifest()
        splits, classes = _by_split(listed), self._classes(listed)

        def images(split: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
            shape = (len(indices), self.num_channels, self.image_size, self.image_size)
            found = np.empty(shape, np.uint8)
            blocks = np.asarray(indices) // PICTURES_AT_ONCE
            for block in np.unique(blocks).tolist():
                inside = np.flatnonzero(blocks == block)
                kept = self._block(listed, splits[split], block)
                found[inside] = kept[indices[inside] - block * PICTURES_AT_ONCE]
            return found

        return Dataset(
            {
                split: numbered([row.label for row in rows], classes, str(self.path))
                for split, rows in splits.items()
            },
            images,
            {self.path.name: f"manifest-sha256:{listed.digest()}"},
            {
                name: {
                    split: np.array([row.columns[name] for row in rows], np.str_)
                    for split, rows in splits.items()
                }
                for name in self._texts(listed)
            },
            {name: partial(self._numbers, name, splits) for name in self.targets},
        )

    def _manifest(self) -> Manifest:
        listed = manifest.read(self.path, self.root)
        for name in self.targets:
            if name not in listed.column_names:
                raise DataError(
                    f"{self.path}: targets: there is no column {name!r}; it has "
                    f"{', '.join(listed.column_names) or 'none beside path and label'}"
                )
        return listed

    def _texts(self, listed: Manifest) -> list[str]:
        """Return the columns that hold no targets."""
        return [name for name in listed.column_names if name not in self.targets]

    def _numbers(self, name: str, splits: Mapping[str, list[Row]]) -> dict[str, Numbers]:
        """Return the numbers in a column, by split.

        Raises:
            DataError: naming up to ten pictures without one.
        """
        manifest.refuse(
            [
                f"{self.path}: {name} of {row.path}: expected a number, got {row.columns[name]!r}"
                for rows in splits.values()
                for row in rows
                if manifest.number(row.columns[name]) is None
            ]
        )
        return {
            split: np.array([manifest.number(row.columns[name]) for row in rows], np.float32)
            for split, rows in splits.items()
        }

    def _classes(self, listed: Manifest) -> tuple[str, ...]:
        return self.class_names or names.checked(
            (row.label for row in listed.rows), f"{self.path}: label"
        )

    def _block(self, listed: Manifest, rows: list[Row], block: int) -> NDArray[np.uint8]:
        """Return some pictures that follow each other in the manifest, from the cache if there."""
        import PIL

        start = block * PICTURES_AT_ONCE
        paths = [listed.root / row.path for row in rows[start : start + PICTURES_AT_ONCE]]
        settings = (VERSION, PIL.__version__, self.image_size, self.num_channels, self.fit)
        stamps = [_stamp(path) for path in paths]
        key = hashlib.sha256(repr((settings, stamps)).encode()).hexdigest()
        shape = (len(paths), self.num_channels, self.image_size, self.image_size)

        def make() -> NDArray[np.uint8]:
            _log.info("reading pictures %d to %d of %d", start, start + len(paths), len(rows))
            return pictures.read(
                paths,
                image_size=self.image_size,
                num_channels=self.num_channels,
                fit=self.fit,
            )

        return load_or_make(f"images-{key}.npy", shape, make)


def _stamp(path: Path) -> tuple[str, int, int]:
    """Return what changes when a file does."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return str(path), stat.st_size, stat.st_mtime_ns


def _by_split(listed: Manifest) -> Mapping[str, list[Row]]:
    """Return the rows of each split, or all as "all"."""
    splits: dict[str, list[Row]] = {split: [] for split in (*SPLITS, "all")}
    for row in listed.rows:
        splits[row.split or "all"].append(row)
    return {split: rows for split, rows in splits.items() if rows}
