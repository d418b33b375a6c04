"""What is seen in data of which nobody has said anything yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from fedsim.data import manifest, pictures
from fedsim.data.medmnist import MedMnist
from fedsim.data.medmnist_registry import REGISTRY
from fedsim.data.recognition import is_data, source_of
from fedsim.data.source import PATIENT, SITE, Dataset, Facts, Source
from fedsim.data.synthetic import Synthetic
from fedsim.errors import DataError, InputError
from fedsim.seeds import Streams

SYNTHETIC = "synthetic"
LIKE_SITE = (SITE, "hospital", "centre", "center", "clinic", "institution")
LIKE_PATIENT = ("patient_id", "patientid", "subject", "subject_id", "person", "case")
MOST_CLASSES, MOST_SITES = 100, 200
"""Above these a column means something else."""
LOOKED_AT = 32
"""Pictures by whose form that of all is guessed."""
FIRST_SIZE, SMALLEST = 64, 16
"""Pixels to begin with, and those below which nothing is to be seen."""
COLOURED = 16
"""Difference between the channels of a pixel that no grey picture has."""


@dataclass(frozen=True)
class Sighting:
    """What was found.

    Args:
        source: that reads the data.
        facts: what the source says of them.
        title: what to call the study.
        counts: images of each class.
        site_column: that says where an image is from, None if there is none.
        sites: images of each value of that column; empty without one.
        num_patients: None if the data do not know patients.
        maybe_patient: a column that looks as if it named patients, but is not called so.
        original_size: pixels of the longer side of pictures, the median; None of arrays.
    """

    source: Source
    facts: Facts
    title: str
    counts: Mapping[str, int]
    site_column: str | None
    sites: Mapping[str, int]
    num_patients: int | None
    maybe_patient: str | None
    original_size: int | None

    def lines(self) -> Iterator[str]:
        """Yield in words what was seen."""
        facts = self.facts
        colour = "grey" if facts.num_channels == 1 else "colour"
        form = f"{sum(self.counts.values())} images, {colour}"
        if self.original_size is None:
            yield f"{form}, {facts.image_size} x {facts.image_size} pixels"
        else:
            yield f"{form}; longer side {self.original_size} pixels in the median"
        yield f"classes: {_counted(self.counts)}"
        if facts.has_official_splits:
            yield f"splits: {_counted(facts.num_examples)}"
        if self.site_column:
            yield f"sites (column {self.site_column}): {_counted(self.sites)}"
        else:
            yield "sites: the data name none, so images are divided over simulated ones"
        if self.num_patients is not None:
            yield f"patients: {self.num_patients}; none is divided over sites or splits"
        elif self.maybe_patient:
            yield (
                f"patients: unknown; if {self.maybe_patient!r} names them, call that column "
                f"{PATIENT!r}, or images of one patient may be trained and tested on"
            )


def look(data: str) -> Sighting:
    """Look at data.

    Args:
        data: path of a manifest, a folder of pictures or an npz file; the name of a MedMNIST set;
            or "synthetic".

    Raises:
        InputError: if it is none of these.
        DataError: if the data cannot be read, or show fewer than two classes.
    """
    source, original_size = _source(data)
    facts = source.facts()
    dataset = source.open(Streams(0))
    labels = np.concatenate(list(dataset.labels.values()))
    found = np.bincount(labels, minlength=len(facts.class_names))
    counts = dict(zip(facts.class_names, found.tolist(), strict=True))
    _check_classes(data, counts)
    site_column = _site_column(facts)
    return Sighting(
        source=source,
        facts=facts,
        title=_title(data),
        counts=counts,
        site_column=site_column,
        sites=_values(dataset, site_column) if site_column else {},
        num_patients=len(facts.columns[PATIENT]) if PATIENT in facts.columns else None,
        maybe_patient=next((name for name in facts.columns if name in LIKE_PATIENT), None),
        original_size=original_size,
    )


def _source(data: str) -> tuple[Source, int | None]:
    """Return the source of the data, and the original size of pictures."""
    path = Path(data).absolute()
    if not path.exists() and data == SYNTHETIC:
        return Synthetic(anatomy="chest", num_examples=600), None
    if not path.exists() and data in REGISTRY:
        return _published(data), None
    if not path.exists():
        raise InputError(
            f"{data}: there is no such file or folder; expected a CSV manifest, a folder of "
            f"pictures, an npz file, the name of a MedMNIST set, or {SYNTHETIC!r}"
        )
    if not is_data(path):
        raise InputError(
            f"{data}: expected a CSV manifest (.csv), a folder of pictures or arrays (.npz)"
        )
    if path.suffix.lower() == ".npz":
        return source_of(path), None
    size, num_channels = _form(path)
    image_size = max(SMALLEST, min(FIRST_SIZE, size))
    listed = source_of(path, image_size=image_size, num_channels=num_channels)
    classes = listed.facts().class_names
    return listed.model_copy(update={"class_names": classes}), size


def _published(name: str) -> MedMnist:
    """Return a MedMNIST set that is on this machine.

    Raises:
        DataError: if it is not.
    """
    finding = "any" if REGISTRY[name].multi_label else None
    source = MedMnist.model_validate({"name": name, "finding": finding})
    if not source.is_local():
        raise DataError(f"{name}: is not here yet; get it with `fedsim data fetch {name}`")
    return source


def _form(path: Path) -> tuple[int, int]:
    """Return the longer side of pictures in pixels, the median, and their channels, of a few."""
    listed = manifest.read(path, None)
    step = -(-len(listed.rows) // LOOKED_AT)
    paths = [listed.root / row.path for row in listed.rows[::step]]
    size = round(median(max(pictures.size(path)) for path in paths))
    seen = pictures.read(paths, image_size=FIRST_SIZE, num_channels=3, fit="pad")
    coloured = np.ptp(seen.astype(np.int16), axis=1).max() > COLOURED
    return size, 3 if coloured else 1


def _check_classes(data: str, counts: Mapping[str, int]) -> None:
    """Refuse labels that are no classes.

    Raises:
        DataError: if there is one class, or nearly as many as images.
    """
    if len(counts) < 2:
        raise DataError(
            f"{data}: all images have the label {next(iter(counts))!r}; there is nothing to tell "
            "apart: at least two labels are needed"
        )
    if len(counts) > min(MOST_CLASSES, max(2, sum(counts.values()) // 2)):
        raise DataError(
            f"{data}: {len(counts)} different labels for {sum(counts.values())} images are no "
            "classes; a number that is to be predicted goes into a column of its own, beside a "
            "label (see `targets` in `fedsim list images`, and task: regression)"
        )


def _site_column(facts: Facts) -> str | None:
    for name in LIKE_SITE:
        values = facts.columns.get(name, ())
        if 2 <= len(values) <= MOST_SITES and "" not in values:
            return name
    return None


def _values(dataset: Dataset, column: str) -> dict[str, int]:
    texts = np.concatenate(list(dataset.columns[column].values()))
    return dict(sorted(Counter(texts.tolist()).items()))


def _title(data: str) -> str:
    path = Path(data).absolute()
    return path.parent.name if path.stem.lower() in ("manifest", "images", "labels") else path.stem


def _counted(counts: Mapping[str, int]) -> str:
    shown = [f"{name} {number}" for name, number in list(counts.items())[:12]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
