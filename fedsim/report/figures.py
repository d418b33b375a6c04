"""What a run did, in pictures: how it learned, what each site got, and why.

Undefined values are gaps in lines and marked places among bars, never zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from clients.metrics import METRICS, NUM_BINS
from fedsim.data.source import POOLED
from fedsim.report import page
from fedsim.report.axes import (
    MAX_WRITTEN,
    label_ends,
    mark_undefined,
    name_sites,
    plot,
    shorten,
    whole_rounds,
    write_value,
)
from fedsim.report.page import Page
from fedsim.report.reliability import Reliability, reliability
from fedsim.report.scores import Scores, arrowed, describe, eligible, finite_or_nan, reached
from fedsim.report.tables import site_by_site

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fedsim.records import RunRecord

MARKERS = {
    "pooled": ("D", page.GREEN, "one training on all images"),
    "local": ("o", page.VERMILLION, "the site alone"),
}
"""Yardstick -> marker, colour and name."""
TERMS = {
    "local_loss": ("local", page.BLUE),
    "distribution_shift_loss": ("distribution shift", page.VERMILLION),
    "aggregation_loss": ("aggregation", page.GREEN),
    "global_loss": ("global (sum)", page.BLACK),
}


def draw(record: RunRecord) -> dict[str, Figure]:
    """Return every figure that the record has data for, by name."""
    figures = {
        "learning_curves": learning_curves(record),
        "site_bars": site_bars(record),
        "label_distribution": label_distribution(record),
    }
    if any(row["loss_decomposition"] for row in record.rounds):
        figures["loss_decomposition"] = loss_decomposition(record)
    if curves := reliability(record):
        figures["calibration"] = calibration(record, curves)
    if matrix := site_by_site(record):
        figures["local_models"] = local_models(record, matrix)
    return figures


@page.style()
def learning_curves(record: RunRecord) -> Figure:
    """Draw each metric over the rounds: both splits pooled, range over sites, best round."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    scores = Scores.of(record)
    best = record.selection.best_round
    sheet = Page(
        "Metrics on validation and test images, by round",
        describe(record),
        "Round 0 is the model before training. Pooled: over the images of all sites together. The "
        "best round is chosen on the validation images alone. ↑ higher, ↓ lower is better.",
        [
            Line2D([], [], color=page.VERMILLION, label="test, pooled"),
            Patch(color=page.VERMILLION, alpha=0.18, lw=0, label="test, range of sites"),
            Line2D([], [], color=page.BLUE, ls="--", label="validation, pooled"),
            Line2D([], [], color=page.GREY, ls=":", label=f"best round ({best})"),
            *(
                [Line2D([], [], color=page.GREEN, ls="-.", lw=1, label="external, pooled")]
                if record.population["external"]
                else []
            ),
        ],
    )
    columns = 1 if len(scores.metrics) == 1 else 2
    rows = max(1, math.ceil(len(scores.metrics) / columns))
    figure = sheet.figure(2.3 * rows if columns == 2 else 3.2)
    for place, metric in enumerate(scores.metrics, start=1):
        axes = figure.add_subplot(rows, columns, place)
        _curves(axes, scores, metric, best)
        if place > len(scores.metrics) - columns:
            axes.set_xlabel("round")
    return figure


@page.style()
def site_bars(record: RunRecord) -> Figure:
    """Draw the final test value of the selection metric at each site, with the pooled one.

    With the bootstrap interval of each where it is known, and beside it the yardsticks.
    """
    from matplotlib.lines import Line2D

    scores, final, *others = Scores.of(record), *reached(record)
    metric, count = record.selection.metric, eligible(record)
    found = [final.at("test", site, metric) for site in scores.sites]
    undefined = any(score.value is None for score in found)
    few = any(site not in count for site in scores.sites)
    yardsticks = [part for part in others if part.method != "federated" and part.model == "final"]
    sheet = Page(
        f"Test {METRICS[metric].title} at each site after the final round ({final.round})",
        describe(record),
        "n: test images of the site that the value counts. Line: over those of all sites together."
        + (" Whiskers: 95 % bootstrap intervals over the test images." if final.intervals else "")
        + (_explain_pale(record) if few else "")
        + (_explain_hatching(metric) if undefined else ""),
        [
            Line2D(
                [],
                [],
                ls="",
                marker=MARKERS[part.method][0],
                color=MARKERS[part.method][1],
                label=MARKERS[part.method][2],
            )
            for part in yardsticks
        ],
    )
    figure = sheet.figure(3.6, page.width_for(len(found)))
    axes = figure.subplots()
    for place, (site, score) in enumerate(zip(scores.sites, found, strict=True)):
        if score.value is None:
            mark_undefined(axes, place, upright=len(found) > MAX_WRITTEN)
            continue
        axes.bar(place, score.value, color=page.SKY if site in count else page.PALE)
        if interval := final.intervals.get(("test", site, metric)):
            axes.vlines(place, *interval, color=page.GREY, lw=1.2)
        if len(found) <= MAX_WRITTEN or abs(score.value) < 0.0005:  # no height to see
            write_value(axes, place, score.value, upright=len(found) > MAX_WRITTEN)
    for part, side in zip(yardsticks, (-0.2, 0.2), strict=False):
        values = [finite_or_nan(part.at("test", site, metric).value) for site in scores.sites]
        marker, colour, _ = MARKERS[part.method]
        places = [place + side for place in range(len(values))]
        axes.plot(places, values, marker, color=colour, ms=5, mec="white", mew=0.6)
    if all(score.value is None for score in found):
        axes.set(ylim=(0, 1), yticks=[])
    pooled = final.at("test", POOLED, metric).value
    if pooled is not None:
        axes.axhline(pooled, color=page.BLACK, lw=1)
        label_ends(axes, {f"pooled {pooled:.3f}": (pooled, page.BLACK)})
    axes.set_ylabel(arrowed(metric))
    name_sites(axes, scores.sites, [f"n={score.num_valid}" for score in found])
    return figure


@page.style()
def label_distribution(record: RunRecord) -> Figure:
    """Draw the class counts of each site's training images, and their shares."""
    from matplotlib.patches import Patch

    sites, names = record.population["sites"], record.population["class_names"]
    colours = page.class_colours(len(names))
    sheet = Page(
        "Classes in each site's training images",
        describe(record),
        "Above: how many; n is their sum. Below: the share of each class at its site.",
        [
            Patch(color=colour, label=name, lw=0)
            for name, colour in zip(names, colours, strict=True)
        ],
    )
    figure = sheet.figure(4.4, page.width_for(len(sites)))
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, scale in ((above, [1] * len(sites)), (below, [sum(s["train"]) or 1 for s in sites])):
        bottom = [0.0] * len(sites)
        for index, colour in enumerate(colours):
            heights = [s["train"][index] / size for s, size in zip(sites, scale, strict=True)]
            axes.bar(range(len(sites)), heights, bottom=bottom, color=colour, ec="white", lw=0.4)
            bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    above.set_ylabel("training images")
    below.set_ylabel("share of site")
    below.set_ylim(0, 1)
    above.tick_params(axis="x", length=0, labelbottom=False)
    name_sites(below, [s["name"] for s in sites], [f"n={sum(s['train'])}" for s in sites])
    return figure


@page.style()
def loss_decomposition(record: RunRecord) -> Figure:
    """Draw the three terms of the global training loss, and their sum, over the rounds."""
    sheet = Page(
        "Where the global training loss comes from, by round",
        describe(record),
        "Estimates on samples of the training images. Local: client models at their own site. "
        "Distribution shift: what they lose on the images of all sites. Aggregation: what the "
        "merged model loses against them. A term below zero is a gain.",
    )
    rows = [row for row in record.rounds if row["loss_decomposition"]]
    rounds = [row["round"] for row in rows]
    figure = sheet.figure(3.4)
    axes = figure.subplots()
    axes.axhline(0, color=page.GREY, lw=0.8)
    ends = {}
    for term, (label, colour) in TERMS.items():
        values = [row["loss_decomposition"][term] for row in rows]
        end = plot(axes, rounds, values, color=colour, lw=2.2 if term == "global_loss" else 1.5)
        if end is not None:
            ends[label] = (end, colour)
    axes.set_ylabel("training loss (nats)")
    axes.set_xlabel("round")
    whole_rounds(axes, rounds)
    label_ends(axes, ends)
    return figure


@page.style()
def calibration(record: RunRecord, curves: dict[str, Reliability]) -> Figure:
    """Draw how often the model is right when it says so, on pooled test and validation images."""
    from matplotlib.lines import Line2D

    binary = record.scenario["data"]["task"] == "binary"
    names = record.population["class_names"]
    positive = names[record.scenario["data"]["positive_class"]] if binary else ""
    said = f"predicted probability of {positive}" if binary else "probability of the decided class"
    seen = f"share that is {positive}" if binary else "share decided rightly"
    sheet = Page(
        "Are the probabilities to be believed?",
        describe(record),
        f"Final model on the images of all sites together, in {NUM_BINS} bins. On the diagonal "
        "what is predicted happens as often as said, below it less often. Bars: test images per "
        "bin.",
        [
            Line2D([], [], color=page.VERMILLION, marker="o", label="test"),
            Line2D([], [], color=page.BLUE, ls="--", marker=".", label="validation"),
        ],
    )
    figure = sheet.figure(5.0, 6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    above.plot([0, 1], [0, 1], color=page.GREY, lw=0.8)
    looks = (("validation", page.BLUE, "--", "."), ("test", page.VERMILLION, "-", "o"))
    for split, colour, line, marker in looks:
        if split in curves:
            curve = curves[split]
            above.plot(curve.said, curve.seen, marker=marker, color=colour, ls=line, ms=5)
    edges = [bin / NUM_BINS for bin in range(NUM_BINS)]
    below.bar(edges, curves["test"].counts, 1 / NUM_BINS, align="edge", color=page.SKY, ec="white")
    above.set(ylabel=seen, xlim=(0, 1), ylim=(0, 1))
    below.set(xlabel=said, ylabel="images")
    return figure


@page.style()
def local_models(record: RunRecord, matrix: list[list[float]]) -> Figure:
    """Draw how the final model of each site does at every site, and the federated one last."""
    from matplotlib import colormaps

    metric, names = record.selection.metric, [s["name"] for s in record.population["sites"]]
    sheet = Page(
        f"Test {METRICS[metric].title} of each site's own model, at every site",
        describe(record),
        "A row is a model: trained at one site without the others, or by the federation. A column "
        "is the site whose test images it is judged on. Hatched: undefined there.",
    )
    size = min(0.5, 7.0 / max(len(names), 6))
    figure = sheet.figure(1.2 + size * len(matrix), max(5.0, page.width_for(len(names))))
    axes = figure.subplots()
    shades = colormaps["cividis" if METRICS[metric].higher_is_better else "cividis_r"]
    known = [value for values in matrix for value in values if not math.isnan(value)]
    lowest, width = min(known, default=0.0), max(known, default=1.0) - min(known, default=0.0) or 1
    shown = axes.pcolormesh(matrix, cmap=shades, edgecolors="white", lw=0.5)
    axes.set_facecolor("#EDEDED")
    axes.patch.set_hatch("////")
    axes.patch.set_edgecolor("#BDBDBD")
    axes.invert_yaxis()
    axes.grid(visible=False)
    if len(names) <= MAX_WRITTEN:
        for row, values in enumerate(matrix):
            for column, value in enumerate(values):
                if not math.isnan(value):
                    dark = sum(shades((value - lowest) / width)[:3]) < 1.5
                    axes.text(
                        column + 0.5,
                        row + 0.5,
                        f"{value:.2f}",
                        ha="center",
                        va="center",
                        size=8,
                        color="white" if dark else page.BLACK,
                    )
    labels = [shorten(name) for name in names]
    turned = max(map(len, labels)) * len(labels) > 70
    axes.set_xticks([i + 0.5 for i in range(len(names))], labels, rotation=90 * turned)
    axes.set_yticks([i + 0.5 for i in range(len(matrix))], [*labels, "federated"])
    axes.tick_params(length=0, labelsize=8)
    axes.set(xlabel="judged at", ylabel="trained at")
    figure.colorbar(shown, ax=axes, label=arrowed(metric))
    return figure


def _explain_pale(record: RunRecord) -> str:
    least = record.scenario["evaluation"]["min_per_class"]
    return f" Pale: fewer than {least} test images of some class, too few to be compared."


def _explain_hatching(metric: str) -> str:
    cause = ", as it is where the images are all of one class"
    return f" Hatched: undefined{cause if METRICS[metric].needs_two_classes else ''}."


def _curves(axes: Axes, scores: Scores, metric: str, best: int) -> None:
    rounds = scores.rounds
    sites = [scores.defined(round, "test", metric).values() for round in rounds]
    axes.fill_between(
        rounds,
        [min(values, default=math.nan) for values in sites],
        [max(values, default=math.nan) for values in sites],
        color=page.VERMILLION,
        alpha=0.18,
        lw=0,
    )
    abroad = [scores.at(round, "external", POOLED, metric).value for round in rounds]
    if any(value is not None for value in abroad):
        plot(axes, rounds, abroad, color=page.GREEN, ls="-.", lw=1)
    ends = []
    looks = (("test", page.VERMILLION, "-", 7), ("validation", page.BLUE, "--", 4))
    for split, colour, line, size in looks:  # narrower on top: equal ones both show
        values = [scores.at(round, split, POOLED, metric).value for round in rounds]
        ends.append(plot(axes, rounds, values, color=colour, ls=line))
        chosen = scores.at(best, split, POOLED, metric).value
        if chosen is not None:
            axes.plot(best, chosen, "o", ms=size, mfc="white", mec=colour, mew=1.4, zorder=4)
    axes.axvline(best, color=page.GREY, ls=":", lw=1)
    axes.set_ylabel(arrowed(metric))
    whole_rounds(axes, rounds)
    if ends == [None, None]:
        axes.set_yticks([])
        axes.set_title("undefined in every round", size=9, color=page.GREY)
