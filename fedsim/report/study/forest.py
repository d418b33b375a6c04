"""Each method's difference to the reference, with its interval and what is too small to matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clients.metrics import METRICS
from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas
from fedsim.report.scores import arrowed, finite_or_nan
from fedsim.report.study.looks import titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNDECIDED = "#767676"
LOOKS: Mapping[str, Mapping[str, Any]] = {
    "better": {"color": canvas.BLUE, "marker": "o"},
    "worse": {"color": canvas.VERMILLION, "marker": "s"},
    "equivalent": {"color": canvas.BLACK, "marker": "D", "mfc": "white"},
    "not shown": {"color": UNDECIDED, "marker": "o", "mfc": "white"},
    "not tested": {"color": UNDECIDED, "marker": "x"},
}
"""Verdict -> how its difference looks."""
BAND = "#E8EEF2"
ROW = 0.3
"""Inches of a line of the plot."""


@canvas.style()
def forest(comparison: Mapping[str, Any], study: str) -> Figure:
    """Draw each method's difference to the reference in the primary metric, with its interval."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    primary = comparison["primary"]
    found = [row for row in comparison["differences"] if row["metric"] == primary["metric"]]
    settings = [s for s in comparison["settings"] if any(row["setting"] == s for row in found)]
    least = primary["smallest_difference_of_interest"]
    higher = primary["higher_is_better"]
    sheet = Canvas(
        f"Difference to {primary['reference']} in {METRICS[primary['metric']].title}, same seed",
        study,
        f"Mean over seeds and interval of each difference; right of zero the method is "
        f"{'better' if higher else 'worse'}. An interval inside the band shows that no difference "
        "of interest is there; one that reaches out of it on both sides shows nothing.",
        [
            *(
                Line2D([], [], label=verdict, **look)
                for verdict, look in LOOKS.items()
                if any(row["verdict"] == verdict for row in found)
            ),
            *(
                [Patch(color=BAND, lw=0, label=f"smaller than {least:g}: of no interest")]
                if least
                else []
            ),
        ],
    )
    lines = len(found) + 1.1 * len(settings)
    figure = sheet.figure(0.5 + ROW * lines)
    axes = figure.subplots()
    if least:
        axes.axvspan(-least, least, color=BAND, lw=0)
    axes.axvline(0, color=canvas.GREY, lw=1)
    place, places, names = 0.0, [], []
    for setting in settings:
        if len(comparison["settings"]) > 1:
            axes.annotate(
                titled(setting),
                (0, place),
                (4, 0),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                va="center",
                weight="bold",
                size=8.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
            place += 1
        for row in (row for row in found if row["setting"] == setting):
            _difference(axes, place, row)
            places.append(place)
            names.append(shorten(row["method"]))
            place += 1
        place += 0.1
    axes.set_yticks(places, names)
    axes.set_ylim(place - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(f"difference in {arrowed(primary['metric'])}")
    return figure


def _difference(axes: Axes, place: float, row: Mapping[str, Any]) -> None:
    look = LOOKS.get(row["verdict"], LOOKS["not shown"])
    if row["low"] is not None:
        axes.plot([row["low"], row["high"]], [place, place], color=look["color"], lw=1.8)
    axes.plot(finite_or_nan(row["mean"]), place, ls="", ms=6, **look)
    axes.annotate(
        row["verdict"],
        (1.01, place),
        xycoords=axes.get_yaxis_transform(),
        va="center",
        size=8,
        color=canvas.GREY if row["verdict"].startswith("not") else canvas.BLACK,
    )
