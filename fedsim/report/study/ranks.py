"""Mean ranks of the methods, and which of them cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@canvas.style()
def critical_difference(comparison: Mapping[str, Any], study: str) -> Figure:
    """Draw the mean ranks of the methods, with bars over those that cannot be told apart."""
    ranks = sorted(comparison["ranks"], key=lambda row: (row["mean_rank"], row["method"]))
    width = comparison["critical_difference"]
    sheet = Canvas(
        "Mean rank of each method, 1 is best",
        study,
        f"Methods under one bar differ by less than the critical difference, {width:.2f} ranks. "
        f"{comparison['rank_note']}",
    )
    groups = _groups([row["mean_rank"] for row in ranks], width)
    figure = sheet.figure(0.7 + 0.24 * len(ranks) + 0.14 * len(groups))
    axes = figure.subplots()
    top = -0.6 * len(groups)
    for place, row in enumerate(ranks, start=1):
        axes.plot([row["mean_rank"]] * 2, [top - 0.6, place], color="#C4C9CE", lw=0.8, zorder=1)
        axes.plot(row["mean_rank"], place, "o", color=canvas.BLUE, ms=5)
        axes.annotate(
            f"{shorten(row['method'])} {row['mean_rank']:.2f}",
            (row["mean_rank"], place),
            (8, 0),
            textcoords="offset points",
            va="center",
            size=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    for number, (low, high) in enumerate(groups):
        height = -0.6 * number - 0.1
        axes.plot([low - 0.03, high + 0.03], [height] * 2, color=canvas.BLACK, lw=3.5, zorder=3)
    axes.set_xlim(0.8, len(ranks) + 0.9)
    axes.set_ylim(len(ranks) + 0.6, top - 0.6)
    axes.set_xticks(range(1, len(ranks) + 1))
    axes.xaxis.tick_top()
    axes.set_yticks([])
    axes.grid(visible=False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "top")
    return figure


def _groups(ranks: Sequence[float], width: float) -> list[tuple[float, float]]:
    """Return the longest runs of ascending ranks that span less than `width`.

    >>> _groups([1.0, 1.5, 2.4, 4.0], 1.2)
    [(1.0, 1.5), (1.5, 2.4)]
    """
    found: list[tuple[float, float]] = []
    for low in ranks:
        high = max(rank for rank in ranks if rank < low + width)
        if high > low and not (found and found[-1][1] >= high):
            found.append((low, high))
    return found
