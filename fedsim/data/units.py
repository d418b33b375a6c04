"""What is never divided over sites or splits: an example, or a patient with all of their images.

>>> labels, patients = np.array([0, 1, 1, 0]), np.array(["ann", "bob", "bob", ""])
>>> units = Units.of(labels, {"patient": patients}, num_classes=2)
>>> units.labels.tolist(), units.examples(np.array([2])).tolist()
([0, 0, 1], [1, 2])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsim.data.source import PATIENT, Texts
from fedsim.errors import DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """The units of some examples.

    Args:
        of_example: the unit of each example, (example,).
        labels: the class that most examples of a unit show, the first of equals, (unit,).
        columns: what is known of each unit: column -> (unit,), text.
    """

    of_example: Indices
    labels: Indices
    columns: Mapping[str, Texts]

    @classmethod
    def of(cls, labels: Indices, columns: Mapping[str, Texts], num_classes: int) -> Units:
        """Return one unit per patient, in the order of their names, or one per example.

        An example whose patient is not known (an empty text) is a unit of its own. A column that
        differs between the images of a patient is left out.

        Args:
            labels: (example,).
            columns: column -> (example,), text; `patient` says whose image it is.
            num_classes: of the task.
        """
        if PATIENT not in columns:
            return cls(np.arange(len(labels)), labels, columns)
        patients = columns[PATIENT]
        _, named = np.unique(patients, return_inverse=True)
        whose = np.where(patients == "", -1 - np.arange(len(labels)), named)
        _, first, of_example = np.unique(whose, return_index=True, return_inverse=True)
        shown = np.zeros((len(first), num_classes), np.int64)
        np.add.at(shown, (of_example, labels), 1)
        constant = {
            name: values[first]
            for name, values in columns.items()
            if (values == values[first][of_example]).all()
        }
        return cls(of_example, shown.argmax(axis=1), constant)

    def examples(self, units: Indices) -> Indices:
        """Return the examples of these units, ascending."""
        chosen = np.zeros(len(self.labels), bool)
        chosen[units] = True
        return np.flatnonzero(chosen[self.of_example])


def numbered(patients: Texts) -> Indices:
    """Return a number for the patient of each example, from 0 in the order of their first images.

    Args:
        patients: whose image each is, (example,); an empty text is of a patient of its own.

    >>> numbered(np.array(["bob", "ann", "", "bob", ""])).tolist()
    [0, 1, 2, 0, 3]
    """
    alone = -1 - np.arange(len(patients))
    _, named = np.unique(patients, return_inverse=True)
    _, first, found = np.unique(
        np.where(patients == "", alone, named), return_index=True, return_inverse=True
    )
    rank: Indices = np.argsort(np.argsort(first))[found]
    return rank


def check_patients(patients: Mapping[str, Texts]) -> None:
    """Refuse patients who have images in several splits.

    Args:
        patients: split -> whose image each is, (n,).

    Raises:
        DataError: naming some of them.
    """
    seen: dict[str, str] = {}
    both: dict[str, str] = {}
    for split, names in patients.items():
        for name in np.unique(names[names != ""]).tolist():
            if seen.setdefault(name, split) != split:
                both[name] = f"{name} ({seen[name]} and {split})"
    if both:
        raise DataError(
            f"{len(both)} patients have images in more than one split, such as "
            f"{', '.join(list(both.values())[:3])}: put all images of a patient into one split, or "
            "give shares as held_out instead of `official`"
        )


def check_sites(patients: Texts, sites: Texts, column: str) -> None:
    """Refuse patients who have images at several sites.

    Args:
        patients: whose image each is, (n,).
        sites: where it is, (n,).
        column: that says so.

    Raises:
        DataError: naming some of them.
    """
    known = patients != ""
    pairs = np.unique(np.column_stack([patients[known], sites[known]]), axis=0)
    names, counts = np.unique(pairs[:, 0], return_counts=True) if len(pairs) else (pairs, pairs)
    if (both := names[counts > 1]).size:
        name = str(both[0])
        where = " and ".join(pairs[pairs[:, 0] == name][:, 1].tolist())
        raise DataError(
            f"{both.size} patients have images at more than one {column}, such as {name} ({where})."
            " If these are different people, make their names different, such as "
            f"{pairs[pairs[:, 0] == name][0, 1]}/{name}; if they are not, keep one"
        )
