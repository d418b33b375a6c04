"""Whether the probabilities of the methods' models are to be believed, and of use in a clinic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedsim.report import canvas
from fedsim.report.canvas import Canvas
from fedsim.report.scores import finite_or_nan
from fedsim.report.study.looks import legend, looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]


@canvas.style()
def calibration(rows: Rows, comparison: Mapping[str, Any], study: str) -> Figure:
    """Draw how often the models of each method are right when they say so, in one setting.

    Args:
        rows: of the section `calibration` of a comparison.
        comparison: the whole.
        study: which study it is.
    """
    shown = looks(comparison["methods"], comparison["primary"]["reference"])
    of = rows[0]["of"]
    sheet = Canvas(
        "Are the probabilities to be believed?",
        study,
        f"Of the {of}, test images of all sites and seeds together. On the diagonal what is "
        "predicted happens as often as said, below it less often.",
        legend([row["method"] for row in rows], shown),
    )
    figure = sheet.figure(4.6, 6.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=canvas.GREY, lw=0.8)
    for row in rows:
        look = shown[row["method"]]
        said, seen = ([bin[key] for bin in row["bins"]] for key in ("said", "seen"))
        axes.plot(
            said, seen, color=look.colour, ls=look.line, marker=look.marker, ms=4.5, clip_on=False
        )
    positive = of == "positive class"
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=f"predicted probability of the {of}")
    axes.set_ylabel("share that is of this class" if positive else "share decided rightly")
    return figure


@canvas.style()
def decision_curves(rows: Rows, comparison: Mapping[str, Any], study: str) -> Figure:
    """Draw the net benefit of treating by each method's models, in one setting.

    Args:
        rows: of the section `decision_curves` of a comparison.
        comparison: the whole.
        study: which study it is.
    """
    from matplotlib.lines import Line2D

    shown = looks(comparison["methods"], comparison["primary"]["reference"])
    all_of_them: dict[str, Any] = {"color": canvas.GREY, "ls": ":", "lw": 1.5}
    sheet = Canvas(
        "Are the models of use? Net benefit by the probability at which one treats",
        study,
        "Whoever treats from a probability p on says that a missed case weighs (1 - p) / p times "
        "as much as a needless treatment. A model is of use at p where it lies above treating "
        "everybody and above zero, treating nobody. Mean over seeds; the share of cases is that of "
        "the test images.",
        [
            *legend([row["method"] for row in rows], shown),
            Line2D([], [], label="treat everybody", **all_of_them),
        ],
    )
    figure = sheet.figure(3.8)
    axes = figure.subplots()
    axes.axhline(0, color=canvas.GREY, lw=0.8)
    axes.plot(rows[0]["thresholds"], rows[0]["treat_all"], **all_of_them)
    for row in rows:
        look = shown[row["method"]]
        axes.plot(
            row["thresholds"],
            [finite_or_nan(value) for value in row["net_benefit"]],
            color=look.colour,
            ls=look.line,
            marker=look.marker,
            ms=4.5,
            markevery=2,
        )
    top = max(row["treat_all"][0] for row in rows)
    axes.set_ylim(-0.25 * abs(top), None)
    axes.set_xlabel("probability from which on one treats")
    axes.set_ylabel("net benefit per patient")
    return figure
