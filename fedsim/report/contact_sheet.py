"""A contact sheet: what the images of each site and class look like, before anything is trained."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedsim.data import drawn_sites
from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from fedsim.data.population import Population
    from fedsim.data.source import Split

MAX_SITES = MAX_CLASSES = 24
LARGEST = 160
"""Pixels of an image on the sheet; larger ones are reduced by averaging blocks of pixels."""
GAP = 0.15
"""Between classes, in images."""
LEAST_INCHES = 0.3
"""Width of an image at least."""
MARGIN = 1.0
"""Inches beside the images, for the names of the sites."""
COUNT_HEIGHT, LETTER_WIDTH, SLOPING_HEIGHT = 0.14, 0.08, 1.1
"""Inches of a count, of a letter of a class's name, and of names that are written at a slope."""
WHITE = 255
TITLES = {"train": "Training", "validation": "Validation", "test": "Test"}


@canvas.style()
def contact_sheet(population: Population, split: Split, per_class: int, run: str) -> Figure:
    """Draw some images of every class at every site, as the site's scanner shows them.

    Where the server holds what is held out, that takes the place of sites in these splits.

    Args:
        population: whose images.
        split: of which split.
        per_class: images of each class at each site.
        run: which study it is.

    Sites that do not know the labels of these images are left out; some must know them.
    """
    holders, sites = _held(population, split), labelled(population, split)
    classes = range(min(len(population.class_names), MAX_CLASSES))
    strips = [
        [_strip(population, site, split, label, per_class) for label in classes] for site in sites
    ]
    size = strips[0][0].shape[0]
    gap = max(1, round(GAP * size))
    rows = [_joined(row, gap) for row in strips]
    inches = max(canvas.WIDTH - MARGIN, LEAST_INCHES * per_class * len(classes))
    line = max(gap, math.ceil(COUNT_HEIGHT * rows[0].shape[1] / inches))
    above = ((line, 0), (0, 0), (0, 0))
    sheet = np.concatenate([np.pad(row, above, constant_values=WHITE) for row in rows])
    names = [shorten(population.class_names[label]) for label in classes]
    sloping = max(map(len, names)) * LETTER_WIDTH > inches / len(classes)
    figure = Canvas(
        f"{TITLES[split]} images by site and class",
        run,
        _note(population, len(sites), len(holders), len(classes)),
    ).figure(
        0.4 + inches * sheet.shape[0] / sheet.shape[1] + SLOPING_HEIGHT * sloping, MARGIN + inches
    )
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="none", aspect="equal")
    width, height = per_class * size + gap, size + line
    axes.set_xticks([label * width + per_class * size / 2 for label in classes], names)
    axes.set_yticks(
        [place * height + line + size / 2 for place in range(len(sites))],
        [shorten(population.name(site)) for site in sites],
    )
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    if sloping:
        for text in axes.get_xticklabels():
            text.set(ha="left", rotation=45, rotation_mode="anchor")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row, site in enumerate(sites):
        counts = population.class_counts(site, split)
        for label in classes:
            place = (label * width, row * height + line - 1)
            axes.text(*place, f"n={counts[label]}", size=6, va="bottom", color=canvas.GREY)
    return figure


def labelled(population: Population, split: Split) -> list[int]:
    """Return who has images of a split that can be sorted by class, as many as a sheet holds."""
    known = (holder for holder in _held(population, split) if population.is_labelled(holder, split))
    return list(islice(known, MAX_SITES))


def _held(population: Population, split: Split) -> Sequence[int]:
    """Return who has images of a split."""
    return range(len(population)) if split == "train" else population.holders


def _note(population: Population, num_shown: int, num_holders: int, num_classes: int) -> str:
    """Return how to read the sheet, and what is not on it."""
    note = (
        "Images as the sites hold them: after the shift of the site's scanner if there is one, "
        "before normalisation. n: images of the class at the site."
    )
    for shown, num, what in (
        (num_shown, num_holders, "sites"),
        (num_classes, len(population.class_names), "classes"),
    ):
        if shown < num:
            note += f" The first {shown} of {num:,} {what}."
    if population.knowledge:
        note += " Sites that do not know their labels are left out."
    if drawn := drawn_sites.describe(population):
        note += f" {drawn_sites.text(drawn)}."
    return note


def _strip(
    population: Population, site: int, split: Split, label: int, num: int
) -> NDArray[np.uint8]:
    """Return images of one class side by side, (height, num * width, 3), white where there is none.

    They are taken at equal distances over all that the site has.
    """
    positions = population.held(site)[split]
    mine = positions[population.labels[positions] == label]
    chosen = mine[np.unique(np.linspace(0, len(mine) - 1, min(num, len(mine))).round().astype(int))]
    shown = _reduced(population.shown(site, chosen))
    size = shown.shape[-1]
    strip = np.full((size, num * size, 3), WHITE, np.uint8)
    for place, image in enumerate(shown):
        strip[:, place * size : (place + 1) * size] = image.transpose(1, 2, 0)
    return strip


def _reduced(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images, (n, channel, size, size), of at most `LARGEST` pixels."""
    size = images.shape[-1]
    factor = -(-size // LARGEST)
    if factor == 1:
        return images
    size = size // factor
    whole = images[..., : size * factor, : size * factor]
    blocks = whole.reshape(*images.shape[:2], size, factor, size, factor)
    return np.asarray(blocks.mean(axis=(3, 5)).round(), np.uint8)


def _joined(strips: list[NDArray[np.uint8]], gap: int) -> NDArray[np.uint8]:
    """Return the strips of a site in a row with white between them."""
    white = np.full((strips[0].shape[0], gap, 3), WHITE, np.uint8)
    return np.concatenate([part for strip in strips for part in (strip, white)][:-1], axis=1)
