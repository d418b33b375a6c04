"""MedMNIST v2: twelve sets of small 2-D medical images with official splits.

Source: Yang et al., MedMNIST v2, Scientific Data 10, 41 (2023). The file is looked for in the
folder that FEDSIM_DATA_DIR names, then in fedsim's cache, then downloaded into the cache.

>>> MedMnist(name="pneumoniamnist").facts().class_names
('normal', 'pneumonia')
>>> MedMnist(name="chestmnist", finding="pleural_thickening").facts().class_names
('no pleural thickening', 'pleural thickening')
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from fedsim.data import cache, npz_file
from fedsim.data.array_hash import array_hash
from fedsim.data.download import download
from fedsim.data.medmnist_registry import CITATION, REGISTRY, SIZES, Entry
from fedsim.data.source import SPLITS, Dataset, Facts, Source
from fedsim.errors import DataError

if TYPE_CHECKING:
    from fedsim.seeds import Streams

Name = Literal[
    "pathmnist",
    "chestmnist",
    "dermamnist",
    "octmnist",
    "pneumoniamnist",
    "retinamnist",
    "breastmnist",
    "bloodmnist",
    "tissuemnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
]
Finding = Literal[
    "atelectasis",
    "cardiomegaly",
    "effusion",
    "infiltration",
    "mass",
    "nodule",
    "pneumonia",
    "pneumothorax",
    "consolidation",
    "edema",
    "emphysema",
    "fibrosis",
    "pleural_thickening",
    "hernia",
    "any",
]
"""The columns of ChestMNIST's labels, in order, then whether at least one of them is 1."""

URL = "https://zenodo.org/records/10519652/files/{file}?download=1"
PREFIXES = {"train": "train", "validation": "val", "test": "test"}
"""Split -> how the file's array names begin."""

Arrays = dict[str, NDArray[np.generic]]
"""Array name of the file -> images, (n, height, width[, 3]), uint8, or labels, int64, (n,) or,
of a multi-label set, (n, class)."""


class MedMnist(Source):
    """The 2-D sets of MedMNIST, CC BY 4.0 (DermaMNIST: CC BY-NC 4.0); cite Yang et al. (2023).

    BreastMNIST's class 0 is "malignant" and class 1 "normal, benign".

    Args:
        name: the set.
        image_size: pixels; above 28 the files take up to 12 GB of disk and of memory.
        finding: what is absent (0) or present (1) in an image of chestmnist, where several
            findings can be; "any" is at least one of them.
    """

    public: ClassVar[bool] = True
    kind: Literal["medmnist"] = "medmnist"
    name: Name
    image_size: Literal[28, 64, 128, 224] = 28
    finding: Finding | None = Field(
        default=None,
        validate_default=True,
        description="absent or present; for chestmnist, and required there",
    )

    @field_validator("finding", mode="before")
    @classmethod
    def _where_there_are_findings(cls, finding: object, info: ValidationInfo) -> object:
        """Refuse chestmnist without a finding, and a finding in any other set."""
        name = info.data.get("name")
        if name is None:  # refused already
            return finding
        if REGISTRY[name].multi_label and finding is None:
            raise ValueError(
                f"{name} has several findings per image: name one of {', '.join(get_args(Finding))}"
            )
        if not REGISTRY[name].multi_label and finding is not None:
            raise ValueError(
                f"{name} has one class per image: leave the finding out (it is for chestmnist)"
            )
        return finding

    @property
    def file(self) -> str:
        """The name of the official file."""
        return f"{self.name}.npz" if self.image_size == 28 else f"{self.name}_{self.image_size}.npz"

    def facts(self) -> Facts:
        """Return what is known without reading or downloading anything."""
        entry = REGISTRY[self.name]
        return Facts(
            num_channels=entry.num_channels,
            image_size=self.image_size,
            class_names=_absent_present(self.finding) if self.finding else entry.class_names,
            ordinal=entry.ordinal,
            num_examples=dict(zip(SPLITS, entry.num_examples, strict=True)),
            licence=entry.licence,
            citation=CITATION,
        )

    def is_local(self) -> bool:
        """Return whether the file is on this machine, so that `open` finds it.

        Raises:
            DataError: if FEDSIM_DATA_DIR names no folder.
        """
        return self.local() is not None

    def open(self, streams: Streams) -> Dataset:
        """Find the file, check it, and return its labels and images; nothing is downloaded.

        Raises:
            DataError: if FEDSIM_DATA_DIR names no folder, or the file is not here, is not the
                official one (nor a copy of it with equal arrays), or is damaged.
        """
        path = self.local()
        if path is None:
            size = "" if self.image_size == 28 else f" --image-size {self.image_size}"
            raise DataError(
                f"{self.file} is not in {' or '.join(map(str, _folders()))}: get it with "
                f"`fedsim data fetch {self.name}{size}`, or put {URL.format(file=self.file)} there"
            )
        stat = path.stat()
        entry = REGISTRY[self.name]
        arrays, identity = _load(path, (stat.st_mtime_ns, stat.st_size), entry, self.image_size)

        def images(split: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
            found = arrays[f"{PREFIXES[split]}_images"][indices].astype(np.uint8, copy=False)
            channels_first = found[:, None] if found.ndim == 3 else found.transpose(0, 3, 1, 2)
            return np.ascontiguousarray(channels_first)

        labels = {str(s): self._labels(arrays[f"{PREFIXES[s]}_labels"]) for s in SPLITS}
        return Dataset(labels, images, {self.file: f"arrays-sha256:{identity}"})

    def _labels(self, found: NDArray[np.generic]) -> NDArray[np.int64]:
        if self.finding == "any":
            return np.asarray(found.any(axis=1), np.int64)
        if self.finding is not None:
            found = found[:, get_args(Finding).index(self.finding)]
        return found.astype(np.int64)

    def local(self) -> Path | None:
        """Return where the file is on this machine, if it is.

        Raises:
            DataError: if FEDSIM_DATA_DIR names no folder.
        """
        return next((f / self.file for f in _folders() if (f / self.file).is_file()), None)

    def fetch(self) -> Path:
        """Download the file into the cache, and return where it is.

        Raises:
            DataError: if it cannot be had, or is not the one that was published.
        """
        url, entry = URL.format(file=self.file), REGISTRY[self.name]
        md5 = entry.md5[SIZES.index(self.image_size)]
        try:
            return download(
                url, md5, cache.folder() / self.file, _most_bytes(entry, self.image_size)
            )
        except (OSError, ValueError) as error:  # no network, no such file; not the one it must be
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(
                f"{self.file} is not in {' or '.join(map(str, _folders()))} and could not be "
                f"downloaded ({why}): get it from {url} (md5 {md5}) and put it "
                f"into {cache.folder()} or into the folder that FEDSIM_DATA_DIR names"
            ) from error


def _most_bytes(entry: Entry, image_size: int) -> int:
    """Return the bytes of a file that is not compressed at all, with room for its directory."""
    per_image = entry.num_channels * image_size**2 + 8 * len(entry.class_names)
    return sum(entry.num_examples) * per_image + 100_000


def _absent_present(finding: Finding) -> tuple[str, str]:
    words = finding.replace("_", " ")
    return ("no finding", "any finding") if finding == "any" else (f"no {words}", words)


def _folders() -> list[Path]:
    """Return where files are looked for, in order.

    Raises:
        DataError: if FEDSIM_DATA_DIR names no folder: what is meant may hold the file.
    """
    named = os.environ.get("FEDSIM_DATA_DIR")
    if named and not Path(named).is_dir():
        raise DataError(
            f"FEDSIM_DATA_DIR names the folder {named}, which does not exist: correct it, or unset "
            f"it to use {cache.folder()} alone"
        )
    return [*([Path(named)] if named else []), cache.folder()]


@functools.lru_cache(maxsize=2)
def _load(path: Path, stamp: tuple[int, int], entry: Entry, image_size: int) -> tuple[Arrays, str]:
    """Return the checked arrays of a file and their hash; `stamp` changes when the file does.

    The arrays are shared by all that open the file: not to be written to.
    """
    md5 = _md5(path)
    arrays = _read(path, entry, image_size)
    identity = array_hash(arrays)
    expected_md5 = entry.md5[SIZES.index(image_size)]
    expected = entry.arrays_28 if image_size == 28 else ""
    if md5 != expected_md5 and identity != expected:
        raise DataError(
            f"{path} is not the official file: md5 {md5}, expected {expected_md5}; array hash "
            f"{identity}, expected {expected or '(not recorded for this file)'}. {_mend(path)}"
        )
    return arrays, identity


def _mend(path: Path) -> str:
    return (
        "Delete it and get it with `fedsim data fetch`, or put "
        f"{URL.format(file=path.name)} in its place"
    )


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _read(path: Path, entry: Entry, image_size: int) -> Arrays:
    """Return the arrays of a file in canonical form, or say how they differ and what to do."""
    try:
        return _checked(path, entry, image_size)
    except DataError as error:
        raise DataError(f"{error}. {_mend(path)}") from error


def _names() -> list[str]:
    return [f"{p}_{what}" for p in PREFIXES.values() for what in ("images", "labels")]


def _checked(path: Path, entry: Entry, image_size: int) -> Arrays:
    """Return the arrays in canonical form; none is read whose header is not as registered."""
    there = npz_file.names(path)
    if missing := [name for name in _names() if name not in there]:
        raise DataError(f"{path} lacks the arrays {', '.join(missing)}")
    pixels = (image_size, image_size, *([3] if entry.num_channels == 3 else []))
    num_classes = len(entry.class_names)
    highest = 1 if entry.multi_label else num_classes - 1
    checked: Arrays = {}
    for prefix, n in zip(PREFIXES.values(), entry.num_examples, strict=True):
        images, labels = f"{prefix}_images", f"{prefix}_labels"
        shape, dtype = npz_file.header(path, images)
        if dtype != np.uint8 or shape != (n, *pixels):
            raise DataError(f"{path}: {images} is {dtype} {shape}, expected uint8 {(n, *pixels)}")
        shape, dtype = npz_file.header(path, labels)
        shapes = [(n, num_classes)] if entry.multi_label else [(n, 1), (n,)]
        if dtype.kind not in "iu" or shape not in shapes:
            raise DataError(
                f"{path}: {labels} is {dtype} {shape}, "
                f"expected integers {' or '.join(map(str, shapes))}"
            )
        found = npz_file.array(path, labels)
        if n and not 0 <= found.min() <= found.max() <= highest:
            raise DataError(
                f"{path}: {labels} reach from {found.min()} to {found.max()}, "
                f"expected 0 to {highest}"
            )
        checked[images] = npz_file.array(path, images)
        checked[labels] = found.reshape(shapes[-1]).astype("<i8")
    return checked
