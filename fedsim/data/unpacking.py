"""Writing the images of a study as PNG files with a manifest, for other programs and for people."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsim.data.manifest import LABEL, PATH, SPLIT
from fedsim.data.population import Population
from fedsim.data.source import PATIENT, SITE, SPLITS
from fedsim.drafts import whole_folder
from fedsim.errors import InputError
from fedsim.spreadsheet import guarded

MANIFEST = "manifest.csv"
IMAGES_AT_ONCE = 256


def unpack(population: Population, folder: Path, watch: Callable[[int, int], None]) -> int:
    """Write `folder/site/split/class/number.png` and `folder/manifest.csv`, whole or not at all.

    The images are those that the sites hold, after the shift of their scanners and before
    normalisation; labels are as the sites know them. External sets are left out.

    Args:
        population: whose images.
        folder: must not exist, or be empty.
        watch: called with the number of images done and of all.

    Returns:
        The number of images.

    Raises:
        InputError: if the folder holds something or cannot be written, if an attribute is called
            as a column of the manifest's own, or if the sites draw their images.
    """
    if population.server is not None:
        raise InputError(
            "sites of the partition resampled share their images and have no number: unpack a "
            "scenario whose partition divides them"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not empty; name another folder")
    columns = _attributes(population)
    with whole_folder(folder) as draft:
        return _fill(population, columns, draft, watch)


def _attributes(population: Population) -> list[str]:
    """Return the columns that travel along, the patient first.

    Raises:
        InputError: if one is called as a column that every manifest has.
    """
    more = [name for name in population.columns if name not in (SITE, PATIENT)]
    known = [name for name in (PATIENT, *more) if name in population.columns]
    if taken := [name for name in known if name.strip().lower() in (PATH, LABEL, SITE, SPLIT)]:
        raise InputError(
            f"the columns {', '.join(taken)} have names that the manifest needs for itself: give "
            "them others in data.source.columns"
        )
    return known


def _fill(
    population: Population, known: list[str], folder: Path, watch: Callable[[int, int], None]
) -> int:
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([PATH, LABEL, SITE, *map(guarded, known), SPLIT])
        num = 0
        for site, split, label, position, pixels in _images(population, watch):
            path = Path(_safe(site)) / split / _safe(label) / f"{position:06d}.png"
            _save(folder / path, pixels)
            columns = [str(population.columns[name][position]) for name in known]
            cells = [path.as_posix(), label, site, *columns, split]
            writer.writerow(map(guarded, cells))
            num += 1
    return num


def _images(
    population: Population, watch: Callable[[int, int], None]
) -> Iterator[tuple[str, str, str, int, NDArray[np.uint8]]]:
    """Yield site, split, label, position and pixels of every image."""
    total = sum(len(held) for splits in population.indices for held in splits.values())
    done = 0
    for number, site in enumerate(population.names):
        for split in SPLITS:
            positions = population.indices[number][split]
            for start in range(0, len(positions), IMAGES_AT_ONCE):
                block = positions[start : start + IMAGES_AT_ONCE]
                shown = population.shown(number, block)
                for position, pixels in zip(block.tolist(), shown, strict=True):
                    label = population.class_names[population.labels[position]]
                    yield site, split, label, position, pixels
                done += len(block)
                watch(done, total)


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path)


def _safe(name: str) -> str:
    """Return a name that can be a folder's."""
    return re.sub(r"[^\w.,+ -]", "_", name).strip(". ")[:100] or "_"
