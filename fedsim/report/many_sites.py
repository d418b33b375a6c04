"""Pictures of more sites than anyone reads the names of: in order of what they show, unnamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.report import canvas
from fedsim.report.axes import label_ends
from fedsim.report.canvas import Canvas
from fedsim.report.scores import (
    METHODS,
    Scores,
    arrowed,
    describe,
    eligible,
    finite_or_nan,
    reached,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fedsim.records import RunRecord
    from fedsim.report.scores import Reached

MOST_NAMED = 100
"""Sites up to which each is named in a picture."""
COLOURS = {"unshrunk": canvas.PURPLE, "pooled": canvas.GREEN, "local": canvas.VERMILLION}
"""Of yardsticks."""


@canvas.style()
def site_values(record: RunRecord) -> Figure:
    """Draw the final test value of the selection metric at every site, the worst first."""
    from matplotlib.lines import Line2D

    final, *others = reached(record)
    metric, sites = record.selection.metric, Scores.of(record).sites
    known = {site: final.at("test", site, metric).value for site in sites}
    sign = 1 if METRICS[metric].higher_is_better else -1
    defined = {site: value for site, value in known.items() if value is not None}
    order = sorted(defined, key=lambda site: sign * defined[site])
    yardsticks = [part for part in others if part.method != "federated" and part.model == "final"]
    colours = {METHODS[part.method]: COLOURS[part.method] for part in yardsticks}
    enough = set(eligible(record))
    sheet = Canvas(
        f"Test {METRICS[metric].title} at each site after the final round ({final.round})",
        describe(record),
        " ".join(_explain(len(sites), len(defined), pale=not set(defined) <= enough)),
        [
            Line2D([], [], ls="", marker="o", ms=4, color=colour, label=label)
            for label, colour in ({METHODS["federated"]: canvas.BLUE} | colours).items()
            if colours
        ],
    )
    figure = sheet.figure(3.6)
    axes = figure.subplots()
    for part in yardsticks:
        _dots(axes, part, order, metric, COLOURS[part.method])
    _dots(axes, final, order, metric, [canvas.BLUE if s in enough else canvas.SKY for s in order])
    if not defined:
        axes.set(ylim=(0, 1), yticks=[], xticks=[])
    pooled = final.at("test", POOLED, metric).value
    if pooled is not None:
        axes.axhline(pooled, color=canvas.BLACK, lw=1)
        label_ends(axes, {f"pooled {pooled:.3f}": (pooled, canvas.BLACK)})
    axes.set_ylabel(arrowed(metric))
    axes.set_xlabel("sites, the worst first")
    axes.set_xlim(-0.5, max(len(order), 1) - 0.5)
    return figure


@canvas.style()
def classes_by_size(record: RunRecord) -> Figure:
    """Draw the class counts of every site's training images and their shares, the largest first."""
    from matplotlib.patches import Patch

    names = record.population["class_names"]
    counts = np.array([site["train"] for site in record.population["sites"]], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    order = np.lexsort((shares[:, 0], -counts.sum(axis=1)))
    colours = canvas.class_colours(len(names))
    sheet = Canvas(
        "Classes in each site's training images",
        describe(record),
        "Sites are in order of their size. Above: how many images of each class. Below: the share "
        "of each class.",
        [
            Patch(color=colour, label=name, lw=0)
            for name, colour in zip(names, colours, strict=True)
        ],
    )
    figure = sheet.figure(4.4)
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, heights in ((above, counts), (below, shares)):
        axes.stackplot(range(len(order)), heights[order].T, colors=colours, step="mid", lw=0)
    above.set_ylabel("training images")
    above.set_ylim(bottom=0)
    above.tick_params(axis="x", length=0, labelbottom=False)
    below.set_ylabel("share of class")
    below.set_ylim(0, 1)
    below.set_xlim(-0.5, len(order) - 0.5)
    below.set_xlabel("sites, the largest first")
    return figure


def _dots(
    axes: Axes, part: Reached, order: Sequence[str], metric: str, colour: str | Sequence[str]
) -> None:
    """Draw a dot for each site, at its place in the order."""
    values = [finite_or_nan(part.at("test", site, metric).value) for site in order]
    axes.scatter(range(len(order)), values, s=5, color=colour, lw=0)


def _explain(num_sites: int, num_defined: int, *, pale: bool) -> Iterator[str]:
    """Yield how to read the dots, as far as there is something to explain."""
    if num_defined:
        yield "A dot is a site; sites.csv names them."
    yield "Line: over the test images of all sites together."
    if pale:
        yield "Pale: too few test images to be compared."
    if num_defined < num_sites:
        yield f"Undefined, and not drawn: {num_sites - num_defined:,} of {num_sites:,} sites."
