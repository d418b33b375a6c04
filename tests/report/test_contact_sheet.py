"""A contact sheet shows images of the right site and class, and says how many there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.data.divided_sites import form
from fedsim.data.normalisation import Unit
from fedsim.data.npz import Npz
from fedsim.data.partition import Iid
from fedsim.data.population import Population
from fedsim.report.contact_sheet import (
    LARGEST,
    MAX_CLASSES,
    MAX_SITES,
    _reduced,
    contact_sheet,
)
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams


def sheet_of(figure: Any) -> Any:
    return np.asarray(figure.axes[0].images[0].get_array())


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_place_shows_its_site_and_class(tiny: Callable[..., Scenario]) -> None:
    population = open_population(tiny())
    figure = contact_sheet(population, "train", 3, "tiny")
    shown = sheet_of(figure)
    gap, line = 2, shown.shape[0] // 3 - 16  # of images of 16 pixels
    assert line >= gap
    assert shown.shape == (3 * (16 + line), 2 * 3 * 16 + gap, 3)
    for site in range(3):
        positions = population.indices[site]["train"]
        for label in (0, 1):
            mine = positions[population.labels[positions] == label]
            own = {population.shown(site, np.array([p]))[0, 0].tobytes() for p in mine}
            for place in range(3):
                top, left = site * (16 + line) + line, label * (48 + gap) + place * 16
                found = np.ascontiguousarray(shown[top : top + 16, left : left + 16, 0])
                assert found.tobytes() in own
    counts = [c for site in range(3) for c in population.class_counts(site, "train")]
    assert texts(figure) == [f"n={count}" for count in counts]


def test_where_there_are_fewer_images_it_stays_white(tiny: Callable[..., Scenario]) -> None:
    population = open_population(tiny())
    shown = sheet_of(contact_sheet(population, "validation", 20, "tiny"))
    assert (shown[:, 19 * 16 : 20 * 16] == 255).all()
    assert not (shown[:, 18] == 255).all()


@pytest.mark.parametrize("num_sites", [1, MAX_SITES + 3])
def test_it_takes_any_number_of_sites(tiny: Callable[..., Scenario], num_sites: int) -> None:
    source = {"kind": "synthetic", "anatomy": "fundus", "image_size": 16, "num_examples": 600}
    scenario = tiny(data={"source": source, "task": "ordinal"}, population={"num_sites": num_sites})
    figure = contact_sheet(open_population(scenario), "test", 2, "tiny")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == min(num_sites, MAX_SITES)
    note = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert (f"The first {MAX_SITES} of {num_sites} sites" in note) == (num_sites > MAX_SITES)


def arrays(folder: Path, size: int, names: list[str]) -> Population:
    """Return one site with twelve images of each class, grey by class."""
    labels = np.arange(12 * len(names)) % len(names)
    pixels = np.broadcast_to(labels.astype(np.uint8)[:, None, None], (len(labels), size, size))
    np.savez(folder / "s.npz", images=pixels, labels=np.array(names)[labels])
    source = Npz(path=folder / "s.npz", images="images", labels="labels", class_names=tuple(names))
    return form(
        source.open(Streams(0)),
        class_names=source.facts().class_names,
        label_map=None,
        names=("all",),
        partition=Iid(),
        shares={"validation": 0.2, "test": 0.2},
        normalisation=Unit(),
        streams=Streams(0),
    )


def test_many_classes_stay_apart(tmp_path: Path) -> None:
    names = [f"finding number {number:02}" for number in range(MAX_CLASSES + 2)]
    figure = contact_sheet(arrays(tmp_path, 16, names), "train", 2, "many")
    figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == names[:MAX_CLASSES]
    starts = [label.get_window_extent().x0 for label in labels]
    assert min(np.diff(starts)) > labels[0].get_fontsize() * figure.dpi / 72
    note = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert f"The first {MAX_CLASSES} of {len(names)} classes" in note


def test_large_images_are_reduced_to_their_means(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 1, 2 * LARGEST + 5, 2 * LARGEST + 5), np.uint8)
    reduced = _reduced(images)
    assert reduced.shape == (2, 1, 108, 108)
    assert reduced[1, 0, 3, 4] == round(images[1, 0, 9:12, 12:15].mean())
    small = images[..., :LARGEST, :LARGEST]
    assert _reduced(small) is small
    shown = sheet_of(contact_sheet(arrays(tmp_path, 500, ["a", "b"]), "train", 1, "large"))
    assert shown.shape[1] == 2 * 125 + round(0.15 * 125)
