"""The primary metric against a number that the study varies, and over two of them as a map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.metrics import METRICS
from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas
from fedsim.report.scores import arrowed, finite_or_nan
from fedsim.report.study.looks import legend, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Mapping[str, Any]
FEWEST = {"line": 3, "map": 2}
"""Values that a number must take for a line, and each of two for a map, to say something."""
WIDE = 8.0
"""Ratio of the largest to the smallest number from which on an axis is logarithmic."""
MAPS_A_ROW = 3


@dataclass(frozen=True)
class Slice:
    """Settings that differ in one or two numbers alone.

    Args:
        keys: key paths of the numbers.
        fixed: what all else is set to, as words; empty if there is nothing else.
        settings: name of each setting -> its numbers, in the order of `keys`.
    """

    keys: tuple[str, ...]
    fixed: str
    settings: Mapping[str, tuple[float, ...]]

    def along(self, axis: int) -> list[float]:
        """Return the values of one of the numbers, ascending."""
        return sorted({numbers[axis] for numbers in self.settings.values()})


def slices(settings: Mapping[str, Values], num_keys: int) -> Iterator[Slice]:
    """Yield the slices of a study along every one, or every two, of the numbers that it varies.

    Args:
        settings: name -> key path -> value.
        num_keys: 1 or 2.
    """
    fewest = FEWEST["line" if num_keys == 1 else "map"]
    numeric = [
        key
        for key in dict.fromkeys(key for values in settings.values() for key in values)
        if all(_is_number(values.get(key)) for values in settings.values())
        and len({values[key] for values in settings.values()}) >= fewest
    ]
    for keys in combinations(numeric, num_keys):
        groups: dict[str, dict[str, tuple[float, ...]]] = {}
        for name, values in settings.items():
            rest = ", ".join(f"{short(k)}={v}" for k, v in values.items() if k not in keys)
            groups.setdefault(rest, {})[name] = tuple(float(values[key]) for key in keys)
        for rest, members in groups.items():
            yield Slice(keys, rest, members)


def short(key: str) -> str:
    """Return the last part of a key path that says something.

    >>> short("population.supervision.0.bag_size"), short("population.partition.alpha")
    ('bag_size', 'alpha')
    """
    return key.rsplit(".", 1)[-1]


@canvas.style()
def line(part: Slice, comparison: Mapping[str, Any], study: str) -> Figure:
    """Draw the primary metric against one number, a line for each method."""
    metric, reference = comparison["primary"]["metric"], comparison["primary"]["reference"]
    shown, name = looks(comparison["methods"], reference), short(part.keys[0])
    sheet = Canvas(
        f"Test {METRICS[metric].title} against {name}" + f", {part.fixed}" * bool(part.fixed),
        study,
        "Mean over the seeds and its interval (Student's t).",
        legend(comparison["methods"], shown),
    )
    figure = sheet.figure(3.8)
    axes = figure.subplots()
    num = len(comparison["methods"])
    for number, method in enumerate(comparison["methods"]):
        points = sorted(_points(part, comparison, method))
        if not points:
            continue
        along, mean, low, high = (np.array(column) for column in zip(*points, strict=True))
        place = along * (1 + 0.02 * (number - num / 2)) if _wide(part.along(0)) else along
        look = shown[method]
        axes.errorbar(
            place,
            mean,
            yerr=np.array([mean - low, high - mean]),
            color=look.colour,
            ls=look.line,
            lw=2 if method == reference else 1.5,
            elinewidth=0.9,
            marker=look.marker,
            ms=4.5,
        )
    _scale(axes, part.along(0))
    axes.set_xlabel(name)
    axes.set_ylabel(arrowed(metric))
    return figure


@canvas.style()
def maps(part: Slice, comparison: Mapping[str, Any], study: str) -> Figure:
    """Draw the primary metric over two numbers, a map for each method in the same colours."""
    metric, methods = comparison["primary"]["metric"], comparison["methods"]
    across, up = part.along(0), part.along(1)
    grids = {method: _grid(part, comparison, method, across, up) for method in methods}
    defined = np.concatenate([grid[np.isfinite(grid)] for grid in grids.values()])
    lowest, highest = (defined.min(), defined.max()) if defined.size else (0.0, 1.0)
    sheet = Canvas(
        f"Test {METRICS[metric].title} over {short(part.keys[0])} and {short(part.keys[1])}"
        + f", {part.fixed}" * bool(part.fixed),
        study,
        "Mean over the seeds. The best cell of each map is framed.",
    )
    columns = min(MAPS_A_ROW, len(methods))
    rows = -(-len(methods) // columns)
    figure = sheet.figure(rows * (0.9 + 0.32 * len(up)))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    higher = METRICS[metric].higher_is_better
    for axes, method in zip(panels, methods, strict=False):
        shown = axes.pcolormesh(
            grids[method],
            cmap="cividis" if higher else "cividis_r",
            vmin=lowest,
            vmax=highest,
            edgecolors="white",
            lw=0.5,
        )
        _name(axes, across, up, part, method)
        _write(axes, grids[method], shown.to_rgba(grids[method]).sum(axis=-1), higher)
    for axes in panels[len(methods) :]:
        axes.set_visible(False)
    return figure


def words(part: Slice, comparison: Mapping[str, Any]) -> str:
    """Return what a figure of a slice shows, in words."""
    title = METRICS[comparison["primary"]["metric"]].title
    said = [
        f"{method}: "
        + ", ".join(
            f"{point[-3]:.3f} at {' and '.join(f'{x:g}' for x in point[:-3])}"
            for point in sorted(_points(part, comparison, method))
        )
        for method in comparison["methods"]
    ]
    names = " and ".join(map(short, part.keys))
    return f"Test {title} by {names}, mean over seeds. {'; '.join(said)}."


def _points(part: Slice, comparison: Mapping[str, Any], method: str) -> Iterator[tuple[float, ...]]:
    """Yield the numbers of each setting, then mean, low and high end of the primary metric."""
    metric = comparison["primary"]["metric"]
    for row in comparison["summary"]:
        if (row["method"], row["metric"]) == (method, metric) and row["setting"] in part.settings:
            mean = finite_or_nan(row["mean"])
            ends = (mean if row[end] is None else row[end] for end in ("low", "high"))
            yield (*part.settings[row["setting"]], mean, *ends)


def _grid(
    part: Slice,
    comparison: Mapping[str, Any],
    method: str,
    across: Sequence[float],
    up: Sequence[float],
) -> Any:
    grid = np.full((len(up), len(across)), np.nan)
    for x, y, mean, *_ in _points(part, comparison, method):
        grid[up.index(y), across.index(x)] = mean
    return grid


def _name(
    axes: Axes, across: Sequence[float], up: Sequence[float], part: Slice, method: str
) -> None:
    axes.set_title(shorten(method), size=9)
    axes.set_xticks([i + 0.5 for i in range(len(across))], [f"{x:g}" for x in across])
    axes.set_yticks([i + 0.5 for i in range(len(up))], [f"{y:g}" for y in up])
    axes.set(xlabel=short(part.keys[0]), ylabel=short(part.keys[1]))
    axes.tick_params(length=0, labelsize=8)
    axes.grid(visible=False)


def _write(axes: Axes, grid: Any, lightness: Any, higher: bool) -> None:
    """Write the values into their cells, white where these are dark, and frame the best one."""
    from matplotlib.patches import Rectangle

    for (y, x), value in np.ndenumerate(grid):
        if np.isfinite(value):
            colour = "white" if lightness[y, x] < 2.6 else "black"
            axes.text(
                x + 0.5, y + 0.5, f"{value:.3f}", ha="center", va="center", size=7, color=colour
            )
    if np.isfinite(grid).any():
        best = np.nanargmax(grid) if higher else np.nanargmin(grid)
        y, x = np.unravel_index(best, grid.shape)
        axes.add_patch(Rectangle((int(x), int(y)), 1, 1, fill=False, ec=canvas.VERMILLION, lw=2))


def _scale(axes: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    if _wide(values):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(values), [f"{value:g}" for value in values])


def _wide(values: Sequence[float]) -> bool:
    return values[0] > 0 and values[-1] / values[0] >= WIDE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
