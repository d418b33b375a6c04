"""Parts of a plot that several figures share: lines with gaps, labels that keep their distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedsim.report.canvas import LINE
from fedsim.report.scores import finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NAME = 20
"""Characters of a site's name that a figure shows."""
MIN_PLACES = 6
"""Places along the axis however few the sites, so that a bar never becomes a wall."""
MAX_WRITTEN = 10
"""Bars in a figure up to which each has its value written on it."""


def plot(
    axes: Axes, places: Sequence[float], values: Sequence[float | None], **look: Any
) -> float | None:
    """Draw a line with a gap where a value is undefined, and return its last defined value."""
    drawn = [finite(value) for value in values]
    marker = "." if len(places) <= 15 or None in drawn else ""
    axes.plot(places, [math.nan if v is None else v for v in drawn], marker=marker, **look)
    return next((value for value in reversed(drawn) if value is not None), None)


def whole_rounds(axes: Axes, rounds: Sequence[int]) -> None:
    """Give the x axis whole numbers, and some width even for a single round."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    if rounds:
        margin = max(0.5, 0.02 * (max(rounds) - min(rounds))) if len(rounds) < 15 else 0.3
        axes.set_xlim(min(rounds) - margin, max(rounds) + margin)


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, str]]) -> None:
    """Write each (value, colour)'s label right of the axes, at its height or as near as fits."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    inches = 0.6 * axes.figure.bbox.height / axes.figure.dpi
    ordered = sorted(ends.items(), key=lambda item: item[1][0])
    wanted = [(value - low) / (high - low) for _, (value, _) in ordered]
    for (label, (_, colour)), height in zip(ordered, spread(wanted, LINE / inches), strict=True):
        axes.annotate(
            label, (1.015, height), xycoords="axes fraction", va="center", color=colour, size=8.5
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Return places at least `gap` apart, nearest to the ascending `wanted` ones (least squares).

    >>> spread([0.0, 4.0, 5.0, 9.0], gap=2.0)
    [0.0, 3.5, 5.5, 9.0]
    """
    blocks: list[tuple[float, int]] = []
    for index, place in enumerate(wanted):
        mean, size = place - gap * index, 1
        while blocks and blocks[-1][0] > mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    flat = [mean for mean, size in blocks for _ in range(size)]
    return [mean + gap * index for index, mean in enumerate(flat)]


def write_value(axes: Axes, place: float, value: float, *, upright: bool) -> None:
    """Write a bar's value at its foot, where no line crosses it."""
    axes.annotate(
        f"{value:.3f}",
        (place, 0),
        (0, 5),
        textcoords="offset points",
        ha="center",
        size=7 if upright else 8,
        rotation=90 if upright else 0,
    )


def mark_undefined(axes: Axes, place: float, *, upright: bool) -> None:
    """Mark a site without a value: a hatched column that has no height to read."""
    across = axes.get_xaxis_transform()
    axes.bar(
        place, 1, color="none", edgecolor="#BDBDBD", hatch="////", linewidth=0, transform=across
    )
    axes.annotate(
        "undefined",
        (place, 0),
        (0, 5),
        textcoords="offset points",
        ha="center",
        size=7,
        rotation=90 if upright else 0,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def shorten(name: str) -> str:
    """Return a site's name as far as a figure shows it."""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def name_sites(axes: Axes, names: Sequence[str], counts: Sequence[str]) -> None:
    """Name the sites under their bars with their counts; turned where they would collide."""
    short = [shorten(name) for name in names]
    longest = max(map(len, [*short, *counts]), default=0)
    turned = (longest + 2) * len(names) > 100
    join = ", " if turned else "\n"
    labels = [f"{name}{join}{count}" for name, count in zip(short, counts, strict=True)]
    axes.set_xticks(range(len(names)), labels)
    centre, half = (len(names) - 1) / 2, max(len(names), MIN_PLACES) / 2 + 0.1
    axes.set_xlim(centre - half, centre + half)
    axes.tick_params(
        axis="x", length=0, labelrotation=90 if turned else 0, labelsize=7 if turned else 8
    )
