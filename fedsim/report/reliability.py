"""How often what a model says with some probability is so, from its recorded predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clients.metrics import NUM_BINS, evaluate
from fedsim.errors import InputError
from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas
from fedsim.report.scores import describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from fedsim.records import RunRecord
    from fedsim.records.read import Predicted


LOOKS = {"test": (canvas.VERMILLION, "-", "o"), "validation": (canvas.BLUE, "--", ".")}
"""Split -> colour, line and marker."""


@dataclass(frozen=True)
class Reliability:
    """One curve of a reliability diagram.

    Args:
        said: mean probability in each bin that is not empty.
        seen: share of it that is so.
        counts: examples in every bin.
        ece: expected calibration error, of the decided class whatever the task.
    """

    said: Sequence[float]
    seen: Sequence[float]
    counts: Sequence[int]
    ece: float


def reliability(record: RunRecord) -> dict[str, Reliability]:
    """Return the curves of the final model on pooled test and validation images.

    None at all without predictions of test images (a run that never was evaluated), or where they
    are no probabilities; none of a split whose predictions are not numbers.
    """
    if record.scenario["data"]["task"] == "regression":
        return {}
    try:
        predictions = record.predictions(record.selection.final_round)
    except InputError:
        return {}
    data = record.scenario["data"]
    positive = data["positive_class"] if data["task"] == "binary" else None
    found = {
        split: drawn
        for split in LOOKS
        if (drawn := curve(list(predictions.get(split, {}).values()), positive)) is not None
    }
    return found if "test" in found else {}


def curve(predictions: Sequence[Predicted], positive: int | None) -> Reliability | None:
    """Return the curve of some predictions taken together; None if they do not determine it.

    The bins are those of the calibration error, closed above.

    Args:
        predictions: log-probabilities and labels.
        positive: whose probability is looked at; that of the decided class if None.
    """
    from sklearn.calibration import calibration_curve

    if not predictions:
        return None
    scores, labels = (np.concatenate(part) for part in zip(*predictions, strict=True))
    ece = evaluate(scores, labels, ("ece",), "multiclass")["ece"].value
    if ece is None:
        return None
    probabilities = np.clip(np.exp(scores.astype(np.float64)), 0, 1)
    said = probabilities.max(axis=1) if positive is None else probabilities[:, positive]
    so = labels == (scores.argmax(axis=1) if positive is None else positive)
    seen, mean = calibration_curve(so, said, n_bins=NUM_BINS)
    bins = np.searchsorted(np.linspace(0, 1, NUM_BINS + 1)[1:-1], said)
    counts = np.bincount(bins, minlength=NUM_BINS)
    return Reliability(mean.tolist(), seen.tolist(), counts.tolist(), ece)


@canvas.style()
def calibration(record: RunRecord, curves: Mapping[str, Reliability]) -> Figure:
    """Draw how often the model is right when it says so, on pooled test and validation images."""
    from matplotlib.lines import Line2D

    said, seen = _axis_names(record)
    sheet = Canvas(
        "Are the probabilities to be believed?",
        describe(record),
        f"Final model on the images of all sites together, in {NUM_BINS} bins. On the diagonal "
        "what is predicted happens as often as said, below it less often. Bars: test images per "
        "bin; a point over few of them says little. ECE: expected calibration error, of the "
        "probability of the decided class.",
        [
            Line2D([], [], color=colour, ls=line, marker=marker, label=f"{split}, ECE {c.ece:.3f}")
            for split, c in curves.items()
            for colour, line, marker in [LOOKS[split]]
        ],
    )
    figure = sheet.figure(5.0, 6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    above.plot([0, 1], [0, 1], color=canvas.GREY, lw=0.8)
    for split, drawn in curves.items():  # the smaller marker last: equal points both show
        colour, line, marker = LOOKS[split]
        look = {"color": colour, "ls": line, "marker": marker, "ms": 5, "clip_on": False}
        above.plot(drawn.said, drawn.seen, zorder=3, **look)
    edges = [bin / NUM_BINS for bin in range(NUM_BINS)]
    below.bar(
        edges, curves["test"].counts, 1 / NUM_BINS, align="edge", color=canvas.SKY, ec="white"
    )
    above.set(ylabel=seen, xlim=(0, 1), ylim=(0, 1))
    below.set(xlabel=said, ylabel="images")
    return figure


def _axis_names(record: RunRecord) -> tuple[str, str]:
    data, names = record.scenario["data"], record.population["class_names"]
    if data["task"] != "binary":
        return "probability of the decided class", "share decided rightly"
    positive = shorten(names[data["positive_class"]])
    return f"predicted probability of {positive}", f"share that is {positive}"
