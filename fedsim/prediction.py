"""What a trained network says of pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedsim import trained
from fedsim.data import pictures
from fedsim.engines.placement import choose_devices
from fedsim.errors import InputError
from fedsim.spreadsheet import unguarded
from fedsim.trained import Trained, Which, as_columns

PICTURES_AT_ONCE = 256


def predict(
    folder: str | Path,
    images: str | Path,
    *,
    which: Which | None = None,
    device: str = "auto",
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Return what is predicted of each picture.

    Args:
        folder: of a run or an export.
        images: a picture, a folder of pictures (with those in its folders, sorted by path), or a
            CSV with a column `path`, relative to the CSV's folder.
        which: of a run: the best round on validation images, which is the default, or the final
            one; an export holds one alone.
        device: as in `fedsim.run`.
        watch: called with the number of pictures done and of all.

    Returns:
        One row per picture: `path` as given, `predicted`, and `p(CLASS)` for each class; of a
        regression `predicted` is the number.

    Raises:
        InputError: if folder or pictures cannot be read.
    """
    network, (root, names) = trained.load(folder, which), listed(Path(images))
    rows: list[dict[str, Any]] = []
    for block in _blocks(names):
        rows += _rows(network, root, block, device)
        watch(len(rows), len(names))
    return rows


def listed(images: Path) -> tuple[Path, list[str]]:
    """Return a folder, and the pictures' paths relative to it.

    Raises:
        InputError: if there is no picture.
    """
    if images.is_dir():
        found = (f.relative_to(images) for f in images.rglob("*") if f.is_file())
        names = sorted(
            file.as_posix()
            for file in found
            if file.suffix.lower() in pictures.SUFFIXES
            and not any(part.startswith(".") for part in file.parts)
        )
        if not names:
            raise InputError(f"{images}: holds no pictures")
        return images, names
    if images.suffix.lower() == ".csv":
        return images.parent, _column(images)
    return images.parent, [images.name]


def _column(file: Path) -> list[str]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if "path" not in (reader.fieldnames or ()):
                raise InputError(f"{file}:1: lacks the column path")
            names = [unguarded(row["path"] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    if not names:
        raise InputError(f"{file}: lists no pictures")
    return names


def _blocks(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), PICTURES_AT_ONCE):
        yield names[start : start + PICTURES_AT_ONCE]


def _rows(network: Trained, root: Path, names: list[str], device: str) -> list[dict[str, Any]]:
    known = network.description
    images = pictures.read(
        [root / name for name in names],
        image_size=known["image_size"],
        num_channels=known["num_channels"],
        fit=network.fit,
    )
    chosen = choose_devices(device)[0]
    if known.get("target"):
        columns, numbers = as_columns(()), network.numbers(images, chosen).tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(names, numbers, strict=True)]
    found = network.probabilities(images, chosen)
    classes, columns = known["class_names"], as_columns(known["class_names"])
    return [
        dict(zip(columns, [name, classes[int(row.argmax())], *row.tolist()], strict=True))
        for name, row in zip(names, found, strict=True)
    ]
