"""A contact sheet: what the images of each site and class look like, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedsim.report import page
from fedsim.report.axes import shorten
from fedsim.report.page import Page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedsim.data.population import Population
    from fedsim.data.source import Split

MAX_SITES = 24
GAP = 0.15
"""Between sites and between classes, in images."""
WHITE = 255
TITLES = {"train": "Training", "validation": "Validation", "test": "Test"}


@page.style()
def contact_sheet(population: Population, split: Split, per_class: int, run: str) -> Figure:
    """Draw some images of every class at every site, as the site's scanner shows them.

    Args:
        population: whose images.
        split: of which split.
        per_class: images of each class at each site.
        run: which study it is.
    """
    sites = range(min(len(population), MAX_SITES))
    classes = range(len(population.class_names))
    strips = [
        [_strip(population, site, split, label, per_class) for label in classes] for site in sites
    ]
    size = strips[0][0].shape[0]
    gap = max(1, round(GAP * size))
    sheet = _joined([_joined(row, gap, axis=1) for row in strips], gap, axis=0)
    note = (
        "Images as the sites hold them: after the shift of the site's scanner if there is one, "
        "before normalisation. n: images of the class at the site."
    )
    if len(population) > MAX_SITES:
        note += f" The first {MAX_SITES} of {len(population)} sites."
    inches = 7.0 * sheet.shape[0] / sheet.shape[1]
    figure = Page(f"{TITLES[split]} images by site and class", run, note).figure(0.4 + inches)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest", aspect="equal")
    width = per_class * size + gap
    axes.set_xticks([label * width + width / 2 for label in classes], population.class_names)
    axes.set_yticks(
        [site * (size + gap) + size / 2 for site in sites],
        [shorten(population.names[site]) for site in sites],
    )
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for site in sites:
        for label, count in enumerate(population.class_counts(site, split).tolist()):
            axes.text(
                label * width + 0.04 * size,
                site * (size + gap) + 0.06 * size,
                f"n={count}",
                size=6,
                va="top",
                color=page.BLACK,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1},
            )
    return figure


def _strip(
    population: Population, site: int, split: Split, label: int, num: int
) -> NDArray[np.uint8]:
    """Return images of one class side by side, (height, num * width, 3), white where there is none.

    They are taken at equal distances over all that the site has.
    """
    positions = population.indices[site][split]
    mine = positions[population.labels[positions] == label]
    chosen = mine[np.unique(np.linspace(0, len(mine) - 1, min(num, len(mine))).round().astype(int))]
    shown = population.shown(site, chosen)
    size = shown.shape[-1]
    strip = np.full((size, num * size, 3), WHITE, np.uint8)
    for place, image in enumerate(shown):
        strip[:, place * size : (place + 1) * size] = image.transpose(1, 2, 0)
    return strip


def _joined(parts: list[NDArray[np.uint8]], gap: int, axis: int) -> NDArray[np.uint8]:
    """Return the parts in a row with white between them."""
    shape = list(parts[0].shape)
    shape[axis] = gap
    white = np.full(shape, WHITE, np.uint8)
    return np.concatenate([piece for part in parts for piece in (part, white)][:-1], axis=axis)
