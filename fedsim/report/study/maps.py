"""The primary metric over two numbers that a study varies, a map for each method.

Over bag sizes and the epsilon of label privacy the maps say for each epsilon which size was best,
and which one theory calls best, if levels are assumed; see `fedsim.report.study.bag_sizes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clients.metrics import METRICS
from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas
from fedsim.report.study.bag_sizes import BagSizes
from fedsim.report.study.varied import Slice, points, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Grid = NDArray[np.float64]
MAPS_A_ROW = 3
BEST_CELL = "The best cell of each map is framed."


@canvas.style()
def maps(
    part: Slice, comparison: Mapping[str, Any], study: str, sizes: BagSizes | None = None
) -> Figure:
    """Draw the primary metric over two numbers, a map for each method in the same colours.

    Args:
        part: whose numbers.
        comparison: of the study.
        study: how figures call it.
        sizes: what is to be marked where the numbers are bag sizes and an epsilon.
    """
    metric, methods = comparison["primary"]["metric"], comparison["methods"]
    grids = {method: _grid(part, comparison, method) for method in methods}
    defined = np.concatenate([grid[np.isfinite(grid)] for grid in grids.values()])
    lowest, highest = (defined.min(), defined.max()) if defined.size else (0.0, 1.0)
    sheet = Canvas(
        f"Test {METRICS[metric].title} over {short(part.keys[0])} and {short(part.keys[1])}"
        + f", {part.fixed}" * bool(part.fixed),
        study,
        f"Mean over the seeds. {BEST_CELL if sizes is None else sizes.note}",
    )
    columns = min(MAPS_A_ROW, len(methods))
    rows = -(-len(methods) // columns)
    figure = sheet.figure(rows * (0.9 + 0.32 * len(part.along(1))))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    higher = METRICS[metric].higher_is_better
    for axes, method in zip(panels, methods, strict=False):
        grid = grids[method]
        shown = axes.pcolormesh(
            grid,
            cmap="cividis" if higher else "cividis_r",
            vmin=lowest,
            vmax=highest,
            edgecolors="white",
            lw=0.5,
        )
        _name(axes, part, method)
        _write(axes, grid, shown.to_rgba(grid).sum(axis=-1))
        for group in [np.full(grid.shape, True)] if sizes is None else sizes.lines(part):
            _frame(axes, np.where(group, grid, np.nan), higher)
        for x, y in () if sizes is None else sizes.advised(part, method):
            axes.plot(x + 0.13, y + 0.5, "D", ms=4, mfc="white", mec="black", mew=0.8)
    for axes in panels[len(methods) :]:
        axes.set_visible(False)
    return figure


def _grid(part: Slice, comparison: Mapping[str, Any], method: str) -> Grid:
    across, up = part.along(0), part.along(1)
    grid = np.full((len(up), len(across)), np.nan)
    for x, y, mean, *_ in points(part, comparison, method):
        grid[up.index(y), across.index(x)] = mean
    return grid


def _name(axes: Axes, part: Slice, method: str) -> None:
    across, up = ([f"{value:g}" for value in part.along(axis)] for axis in (0, 1))
    axes.set_title(shorten(method), size=9)
    axes.set_xticks([i + 0.5 for i in range(len(across))], across)
    axes.set_yticks([i + 0.5 for i in range(len(up))], up)
    axes.set(xlabel=short(part.keys[0]), ylabel=short(part.keys[1]))
    axes.tick_params(length=0, labelsize=8)
    axes.grid(visible=False)


def _write(axes: Axes, grid: Grid, lightness: Grid) -> None:
    """Write the values into their cells, white where these are dark."""
    for (y, x), value in np.ndenumerate(grid):
        if np.isfinite(value):
            colour = "white" if lightness[y, x] < 2.6 else "black"
            axes.text(
                x + 0.5, y + 0.5, f"{value:.3f}", ha="center", va="center", size=7, color=colour
            )


def _frame(axes: Axes, grid: Grid, higher: bool) -> None:
    """Frame the best cell, unless all are alike."""
    from matplotlib.patches import Rectangle

    if len(np.unique(grid[np.isfinite(grid)])) > 1:
        best = np.nanargmax(grid) if higher else np.nanargmin(grid)
        y, x = np.unravel_index(best, grid.shape)
        axes.add_patch(Rectangle((int(x), int(y)), 1, 1, fill=False, ec=canvas.VERMILLION, lw=2))
