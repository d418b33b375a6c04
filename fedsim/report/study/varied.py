"""The primary metric against a number that the study varies; over two of them: `maps`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.metrics import METRICS
from fedsim.records.study import value_name
from fedsim.report import canvas
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

    @property
    def title(self) -> str:
        """What is varied, and what all else is."""
        varied = " and ".join(map(short, self.keys))
        return f"{varied}, {self.fixed}" if self.fixed else varied

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
            rest = ", ".join(
                f"{short(k)}={value_name(v)}" for k, v in values.items() if k not in keys
            )
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
        "Mean over the seeds and its interval (Student's t, cut to the metric's range).",
        legend(comparison["methods"], shown),
    )
    figure = sheet.figure(3.8)
    axes = figure.subplots()
    num = len(comparison["methods"])
    for number, method in enumerate(comparison["methods"]):
        found = sorted(points(part, comparison, method))
        if not found:
            continue
        along, mean, low, high = (np.array(column) for column in zip(*found, strict=True))
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


def words(part: Slice, comparison: Mapping[str, Any]) -> str:
    """Return what a figure of a slice shows, in words."""
    title = METRICS[comparison["primary"]["metric"]].title
    said = [
        f"{method}: "
        + ", ".join(
            f"{point[-3]:.3f} at {' and '.join(f'{x:g}' for x in point[:-3])}"
            for point in sorted(points(part, comparison, method))
        )
        for method in comparison["methods"]
    ]
    names = " and ".join(map(short, part.keys))
    return f"Test {title} by {names}, mean over seeds. {'; '.join(said)}."


def points(part: Slice, comparison: Mapping[str, Any], method: str) -> Iterator[tuple[float, ...]]:
    """Yield the numbers of each setting, then mean, low and high end of the primary metric."""
    metric = comparison["primary"]["metric"]
    for row in comparison["summary"]:
        if (row["method"], row["metric"]) == (method, metric) and row["setting"] in part.settings:
            mean = finite_or_nan(row["mean"])
            ends = (mean if row[end] is None else row[end] for end in ("low", "high"))
            yield (*part.settings[row["setting"]], mean, *ends)


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
