"""Equal images are found wherever they ended up, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedsim.data.divided_sites import form
from fedsim.data.duplicates import look_at
from fedsim.data.normalisation import Unit
from fedsim.data.partition import ByColumn
from fedsim.data.population import ExternalSet, Population
from fedsim.data.source import Dataset
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams


def formed(pixels: NDArray[np.uint8], labels: list[int], sites: list[str]) -> Population:
    """Return a population with official splits: images 0-3 train, 4-5 validation, 6-7 test."""
    bounds = {"train": (0, 4), "validation": (4, 6), "test": (6, 8)}

    def images(split: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return pixels[slice(*bounds[split])][indices]

    return form(
        Dataset(
            {s: np.array(labels[a:b]) for s, (a, b) in bounds.items()},
            images,
            columns={"site": {s: np.array(sites[a:b]) for s, (a, b) in bounds.items()}},
        ),
        class_names=("no", "yes"),
        label_map=None,
        names=("A", "B"),
        partition=ByColumn(),
        shares={},
        normalisation=Unit(),
        streams=Streams(0),
    )


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (8, 1, 4, 4), np.uint8)


LABELS, SITES = [0, 1, 0, 1, 0, 1, 0, 1], ["A", "A", "B", "B", "A", "B", "A", "B"]


def test_distinct_images_are_no_duplicates(pixels: NDArray[np.uint8]) -> None:
    _, found = look_at(formed(pixels, LABELS, SITES))
    assert found.num_groups == 0
    assert found.text() == "no image is there twice"


@pytest.mark.parametrize(
    ("equal", "expected"),
    [
        ((0, 4), {"across_splits": 1, "across_sites": 0, "across_labels": 0}),
        ((0, 2), {"across_splits": 0, "across_sites": 1, "across_labels": 0}),
        ((0, 1), {"across_splits": 0, "across_sites": 0, "across_labels": 1}),
        ((1, 6), {"across_splits": 1, "across_sites": 0, "across_labels": 1}),
        ((2, 4, 7), {"across_splits": 1, "across_sites": 1, "across_labels": 1}),
    ],
)
def test_a_group_counts_by_where_it_differs(
    pixels: NDArray[np.uint8], equal: tuple[int, ...], expected: dict[str, int]
) -> None:
    pixels[list(equal)] = pixels[equal[0]]
    _, found = look_at(formed(pixels, LABELS, SITES))
    assert found.num_groups == 1
    assert {name: getattr(found, name) for name in expected} == expected
    assert len(found.examples[0]) == len(equal)
    assert found.examples[0][0].endswith(f"image {equal[0]}")


def test_the_checksum_is_of_the_pixels_and_not_of_the_sites(pixels: NDArray[np.uint8]) -> None:
    here, _ = look_at(formed(pixels, LABELS, SITES))
    there, _ = look_at(formed(pixels, LABELS, SITES[::-1]))
    assert here == there
    pixels[3, 0, 0, 0] ^= 1
    assert look_at(formed(pixels, LABELS, SITES))[0] != here


def test_an_external_set_that_holds_a_training_image_is_found(pixels: NDArray[np.uint8]) -> None:
    elsewhere = ExternalSet(
        "elsewhere", np.array([0]), None, lambda at: pixels[at], lambda at: pixels[at], Unit()
    )
    population = replace(formed(pixels, LABELS, SITES), external=(elsewhere,))
    _, found = look_at(population)
    assert (found.num_groups, found.across_splits, found.across_sites) == (1, 1, 1)
    assert found.examples == (("A, train, no, image 0", "elsewhere, external, no, image 0"),)


def test_pneumoniamnist_shares_eight_images_between_train_and_validation(
    tiny: Callable[..., Scenario], data_folder: Path
) -> None:
    data: dict[str, Any] = {
        "source": {"kind": "medmnist", "name": "pneumoniamnist"},
        "task": "binary",
    }
    population = {"num_sites": 3, "held_out": "official"}
    scenario = tiny(data=data, population=population, model={"kind": "small_cnn"})
    _, found = look_at(open_population(scenario))
    assert found.across_splits == 8
    with np.load(data_folder / "pneumoniamnist.npz") as file:
        flat = {s: file[f"{s}_images"].reshape(-1, 784) for s in ("train", "val", "test")}
    _, counts = np.unique(np.concatenate(list(flat.values())), axis=0, return_counts=True)
    assert found.num_groups == (counts > 1).sum()
