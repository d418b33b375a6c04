"""Predicted against true numbers of a regression, site by site, from recorded predictions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clients.metrics import METRICS, evaluate
from fedsim.errors import InputError
from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas
from fedsim.report.scores import describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from fedsim.records import RunRecord
    from fedsim.records.read import Predicted

MAX_SITES, COLUMNS = 12, 4
MAX_POINTS = 2000
"""Points of a site that are drawn."""


def agreement(record: RunRecord) -> dict[str, Predicted]:
    """Return what the final model of a regression says of each site's test images.

    Empty for classes, for a run that never was evaluated, and where predictions are not numbers.
    """
    if record.scenario["data"]["task"] != "regression":
        return {}
    try:
        found = record.predictions(record.selection.final_round).get("test", {})
    except InputError:
        return {}
    finite = all(np.isfinite(scores).all() for scores, _ in found.values())
    return found if finite else {}


@canvas.style()
def predicted_against_true(record: RunRecord, found: Mapping[str, Predicted]) -> Figure:
    """Draw each test image of each site at its true and its predicted number.

    Args:
        record: of the run.
        found: site -> predicted numbers and true ones, at least one in all.
    """
    from matplotlib.lines import Line2D

    shown = list(found.items())[:MAX_SITES]
    sheet = Canvas(
        f"Predicted against true {_named(record)}, test images of each site",
        describe(record),
        " ".join(_note(len(shown), found)),
        [Line2D([], [], color=canvas.GREY, lw=0.8, label="predicted = true")],
    )
    columns = min(COLUMNS, max(2, len(shown)))
    rows = math.ceil(len(shown) / columns)
    figure = sheet.figure(2.2 * rows)
    ends = _ends(found)
    for place, (site, (scores, truth)) in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.plot(ends, ends, color=canvas.GREY, lw=0.8)
        step = -(-len(truth) // MAX_POINTS) or 1
        axes.plot(truth[::step], scores[::step, 0], "o", color=canvas.BLUE, ms=3, alpha=0.5, mew=0)
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set_title(f"{shorten(site)}: {_said(scores, truth)}", size=8)
        if place > len(shown) - columns:
            axes.set_xlabel("true")
        if place % columns == 1:
            axes.set_ylabel("predicted")
    return figure


def text(record: RunRecord) -> str:
    """Return what the figure shows, in words."""
    told = "; ".join(
        f"{site} {_said(scores, truth)}"
        for site, (scores, truth) in list(agreement(record).items())[:MAX_SITES]
    )
    return (
        "A point for each test image at its true and its predicted number, a plot for each site, "
        f"with the line on which both are equal. {told}."
    )


def _said(scores: NDArray[np.float32], truth: NDArray[np.float32]) -> str:
    value = evaluate(scores, truth, ("r2",), "regression")["r2"].value
    return f"{METRICS['r2'].title} {'undefined' if value is None else f'{value:.2f}'}"


def _note(num_shown: int, found: Mapping[str, Predicted]) -> list[str]:
    said = ["Final model. On the line what is predicted is so; R² is of the site's images alone."]
    if num_shown < len(found):
        said.append(f"The first {num_shown} of {len(found):,} sites.")
    if any(len(truth) > MAX_POINTS for _, truth in found.values()):
        said.append(f"Of more than {MAX_POINTS:,} images, evenly chosen ones.")
    return said


def _ends(found: Mapping[str, Predicted]) -> tuple[float, float]:
    """Return an interval that holds all numbers, with a margin."""
    numbers = np.concatenate([part.ravel() for pair in found.values() for part in pair])
    low, high = float(numbers.min()), float(numbers.max())
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _named(record: RunRecord) -> str:
    name, unit = record.scenario["data"]["target"], record.population["target_unit"]
    return f"{name} ({unit})" if unit else str(name)
