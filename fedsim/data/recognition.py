"""Which source reads what a path names: a manifest, a folder of pictures, or arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedsim.data import npz_file
from fedsim.data.images import Images
from fedsim.data.medmnist import PREFIXES
from fedsim.data.medmnist_registry import REGISTRY
from fedsim.data.npz import Npz
from fedsim.data.source import PATIENT, SITE
from fedsim.errors import InputError


def is_data(path: Path) -> bool:
    """Return whether a path is called like data, and not like a scenario."""
    return path.is_dir() or path.suffix.lower() in (".csv", ".npz")


def source_of(path: Path, **pictures: Any) -> Images | Npz:
    """Return the source that reads a manifest, a folder of pictures or an npz file as it is.

    Args:
        path: of the file or folder.
        pictures: how pictures are read, as `Images` takes it; arrays are what they are.

    Raises:
        InputError: if an npz file has arrays of other names than the usual ones.
    """
    if path.suffix.lower() == ".npz":
        return _arrays(path)
    return Images(path=path, **pictures)


def _arrays(path: Path) -> Npz:
    """Return the source of arrays with the usual names: MedMNIST's, or images and labels.

    Raises:
        InputError: if they have other names.
    """
    names = set(npz_file.names(path))
    if "train_images" in names:
        splits = {s: p for s, p in PREFIXES.items() if f"{p}_images" in names}
        images, labels = (
            {split: f"{prefix}_{what}" for split, prefix in splits.items()}
            for what in ("images", "labels")
        )
        return Npz.model_validate(
            {"path": path, "images": images, "labels": labels, **_published(path)}
        )
    if not {"images", "labels"} <= names:
        raise InputError(
            f"{path}: has the arrays {', '.join(sorted(names))}, none called images and labels: "
            "name them in a scenario (`fedsim list npz` shows how) and preview that"
        )
    return Npz(
        path=path,
        images="images",
        labels="labels",
        columns={name: name for name in (SITE, PATIENT) if name in names},
        splits="split" if "split" in names else None,
    )


def _published(path: Path) -> dict[str, Any]:
    """Return what is known of a set that is called as one of MedMNIST's."""
    entry = REGISTRY.get(path.stem.partition("_")[0])
    if entry is None or entry.multi_label:
        return {}
    return {"class_names": entry.class_names, "ordinal": entry.ordinal, "licence": entry.licence}
