"""What each site gains by taking part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clients.metrics import METRICS
from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas
from fedsim.report.scores import arrowed, finite_or_nan
from fedsim.report.study.looks import legend, looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]


@canvas.style()
def joining(rows: Rows, comparison: Mapping[str, Any], study: str, alone: str) -> Figure:
    """Draw what each site gains by taking part, of the methods in one setting.

    Args:
        rows: of the section `join` of a comparison, all over the same model of each site alone.
        comparison: the whole.
        study: which study it is.
        alone: what that model is called.
    """
    methods = [m for m in comparison["methods"] if any(row["method"] == m for row in rows)]
    sites = list(dict.fromkeys(row["site"] for row in rows))
    shown = looks(comparison["methods"], comparison["primary"]["reference"])
    metric = comparison["primary"]["metric"]
    sheet = Canvas(
        f"What a site gains by joining, in {METRICS[metric].title}",
        study,
        "Value of the federated model on the site's own test images minus that of the model that "
        f"the site trains {alone}: mean over seeds and interval. Left of zero joining does harm.",
        legend(methods, shown),
    )
    step = 0.8 / max(len(methods), 1)
    figure = sheet.figure(0.6 + max(0.3, 0.13 * len(methods)) * len(sites))
    axes = figure.subplots()
    axes.axvline(0, color=canvas.GREY, lw=1)
    for row in rows:
        look = shown[row["method"]]
        place = sites.index(row["site"]) - 0.4 + step * (methods.index(row["method"]) + 0.5)
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=look.colour, lw=1.3)
        axes.plot(
            finite_or_nan(row["gain_over_alone"]), place, look.marker, ms=4.5, color=look.colour
        )
    for place in range(1, len(sites)):
        axes.axhline(place - 0.5, color="#E6E6E6", lw=0.8)
    axes.set_yticks(range(len(sites)), [shorten(site) for site in sites])
    axes.set_ylim(len(sites) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x")
    better = METRICS[metric].higher_is_better
    axes.set_xlabel(f"{'gain' if better else 'change'} in {arrowed(metric)}")
    return figure
