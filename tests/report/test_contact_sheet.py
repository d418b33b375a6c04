"""A contact sheet shows images of the right site and class, and says how many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedsim.report.contact_sheet import MAX_SITES, contact_sheet
from fedsim.scenario import Scenario, open_population


def sheet_of(figure: Any) -> Any:
    return np.asarray(figure.axes[0].images[0].get_array())


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_place_shows_its_site_and_class(tiny: Callable[..., Scenario]) -> None:
    population = open_population(tiny())
    figure = contact_sheet(population, "train", 3, "tiny")
    shown = sheet_of(figure)
    gap = 2  # of images of 16 pixels
    assert shown.shape == (3 * 16 + 2 * gap, 2 * 3 * 16 + gap, 3)
    for site in range(3):
        positions = population.indices[site]["train"]
        for label in (0, 1):
            mine = positions[population.labels[positions] == label]
            own = {population.shown(site, np.array([p]))[0, 0].tobytes() for p in mine}
            for place in range(3):
                top, left = site * (16 + gap), label * (48 + gap) + place * 16
                found = np.ascontiguousarray(shown[top : top + 16, left : left + 16, 0])
                assert found.tobytes() in own
    counts = [c for site in range(3) for c in population.class_counts(site, "train")]
    assert texts(figure) == [f"n={count}" for count in counts]


def test_where_there_are_fewer_images_it_stays_white(tiny: Callable[..., Scenario]) -> None:
    population = open_population(tiny())
    shown = sheet_of(contact_sheet(population, "validation", 20, "tiny"))
    assert (shown[:16, 19 * 16 : 20 * 16] == 255).all()


@pytest.mark.parametrize("num_sites", [1, MAX_SITES + 3])
def test_it_takes_any_number_of_sites(tiny: Callable[..., Scenario], num_sites: int) -> None:
    source = {"kind": "synthetic", "anatomy": "fundus", "image_size": 16, "num_examples": 600}
    scenario = tiny(data={"source": source, "task": "ordinal"}, population={"num_sites": num_sites})
    figure = contact_sheet(open_population(scenario), "test", 2, "tiny")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == min(num_sites, MAX_SITES)
    note = " ".join(text.get_text() for text in figure.texts)
    assert (f"The first {MAX_SITES} of {num_sites} sites" in note) == (num_sites > MAX_SITES)
