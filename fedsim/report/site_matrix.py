"""How the model of each site does at every other site: what a site alone would have to offer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from clients.metrics import METRICS
from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas
from fedsim.report.many_sites import MOST_NAMED
from fedsim.report.scores import METHODS, arrowed, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from fedsim.records import RunRecord

MAX_SITES_WRITTEN = 12
"""Sites up to which each value is written into its cell."""


@canvas.style()
def local_models(record: RunRecord, matrix: Sequence[Sequence[float]]) -> Figure:
    """Draw how the final model of each site does at every site, and the federated one last.

    Args:
        record: of the run.
        matrix: values of the selecting metric, see `fedsim.report.rows.site_by_site`.
    """
    metric, names = record.selection.metric, [s["name"] for s in record.population["sites"]]
    undefined = any(math.isnan(value) for values in matrix for value in values)
    sheet = Canvas(
        f"Test {METRICS[metric].title} of each site's own model, at every site",
        describe(record),
        "A row is a final model: trained at one site without the others, or by the federation. A "
        "column is the site whose test images it is judged on."
        + (" Hatched: undefined there." if undefined else ""),
    )
    size = min(0.5, 7.0 / max(len(names), 6))
    figure = sheet.figure(1.2 + size * len(matrix), canvas.width_for(min(len(names), MOST_NAMED)))
    axes = figure.subplots()
    higher = METRICS[metric].higher_is_better
    named = len(names) <= MOST_NAMED
    shown = axes.pcolormesh(
        matrix,
        cmap="cividis" if higher else "cividis_r",
        edgecolors="white",
        lw=0.5 if named else 0,
        rasterized=not named,
    )
    axes.set_facecolor("#EDEDED")
    axes.patch.set(hatch="////", edgecolor="#BDBDBD")
    axes.axhline(len(names), color="white", lw=4)
    axes.invert_yaxis()
    axes.grid(visible=False)
    if named:
        _name(axes, [shorten(name) for name in names])
    else:
        axes.set_yticks([len(names) + 0.5], [METHODS["federated"]])
    axes.tick_params(length=0, labelsize=8)
    by = "" if named else ", sites by their number"
    axes.set(xlabel=f"judged at{by}", ylabel=f"trained at{by}")
    if len(names) <= MAX_SITES_WRITTEN:
        _write(axes, matrix, shown.to_rgba(np.array(matrix)).sum(axis=-1))
    figure.colorbar(shown, ax=axes, label=arrowed(metric))
    return figure


def _name(axes: Axes, labels: list[str]) -> None:
    turned = max(map(len, labels)) * len(labels) > 70
    middles = [place + 0.5 for place in range(len(labels) + 1)]
    axes.set_xticks(middles[:-1], labels, rotation=90 if turned else 0)
    axes.set_yticks(middles, [*labels, METHODS["federated"]])


def _write(axes: Axes, matrix: Sequence[Sequence[float]], lightness: NDArray[np.float64]) -> None:
    """Write the values that are defined into their cells, white where these are dark.

    Args:
        axes: of the cells.
        matrix: the values.
        lightness: red + green + blue + opacity of each cell.
    """
    for row, values in enumerate(matrix):
        for column, value in enumerate(values):
            if not math.isnan(value):
                colour = "white" if lightness[row, column] < 2.5 else canvas.BLACK
                place = column + 0.5, row + 0.5
                axes.text(*place, f"{value:.2f}", ha="center", va="center", size=8, color=colour)
