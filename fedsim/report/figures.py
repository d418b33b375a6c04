"""What a run did, in pictures: how it learned, what each site got, and why.

Undefined values are gaps in lines and marked places among bars, never zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.report import canvas
from fedsim.report.agreement import agreement, predicted_against_true
from fedsim.report.axes import (
    MAX_WRITTEN,
    label_ends,
    mark_undefined,
    name_sites,
    plot,
    whole_rounds,
    write_value,
)
from fedsim.report.canvas import Canvas
from fedsim.report.many_sites import MOST_NAMED, classes_by_size, site_values
from fedsim.report.reliability import calibration, reliability
from fedsim.report.rows import site_by_site
from fedsim.report.scores import (
    METHODS,
    Reached,
    Scores,
    arrowed,
    describe,
    eligible,
    finite_or_nan,
    of_class,
    reached,
    resampled,
    tested_sites,
)
from fedsim.report.site_matrix import local_models
from fedsim.report.timeline import Unit, clock, timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fedsim.records import RunRecord

MARKERS = {
    "unshrunk": ("s", canvas.PURPLE, 0.0),
    "pooled": ("D", canvas.GREEN, -0.27),
    "local": ("o", canvas.VERMILLION, 0.27),
}
"""Yardstick -> marker, colour, and place beside the middle of the bar."""
TERMS = {
    "local_loss": ("local", canvas.BLUE),
    "distribution_shift_loss": ("distribution shift", canvas.VERMILLION),
    "aggregation_loss": ("aggregation", canvas.GREEN),
    "global_loss": ("global (sum)", canvas.BLACK),
}


def draw(record: RunRecord) -> dict[str, Figure]:
    """Return every figure that the record has data for, by name."""
    many = len(record.population["sites"]) > MOST_NAMED
    figures = {"learning_curves": learning_curves(record)}
    if tested_sites(record):
        figures["site_bars"] = site_values(record) if many else site_bars(record)
    figures["label_distribution"] = (classes_by_size if many else label_distribution)(record)
    if ends := clock(record):
        figures["timeline"] = timeline(record)
        figures["learning_curves_virtual_time"] = learning_curves(record, ends)
    if any(row["loss_decomposition"] for row in record.rounds):
        figures["loss_decomposition"] = loss_decomposition(record)
    if curves := reliability(record):
        figures["calibration"] = calibration(record, curves)
    if found := agreement(record):
        figures["predicted_against_true"] = predicted_against_true(record, found)
    if matrix := site_by_site(record):
        figures["local_models"] = local_models(record, matrix)
    return figures


@canvas.style()
def learning_curves(record: RunRecord, ends: Mapping[int, float] | None = None) -> Figure:
    """Draw each metric over the rounds: both splits pooled, range over sites, best round.

    Args:
        record: of the run.
        ends: when each round ended in virtual seconds, to draw over that time instead.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    scores = Scores.of(record)
    best = record.selection.best_round
    abroad = any(row["split"] == "external" for row in record.metrics)
    sheet = Canvas(
        f"Metrics on validation and test images, by {'virtual time' if ends else 'round'}",
        describe(record),
        "Round 0 is the model before training. Pooled: over all images of the split together. The "
        "best round is chosen on the validation images alone. ↑ higher, ↓ lower is better."
        + (" External: images on which no site trained." if abroad else "")
        + (" Virtual time is simulated, not measured." if ends else ""),
        [
            Line2D([], [], color=canvas.VERMILLION, label="test, pooled"),
            *(
                [Patch(color=canvas.VERMILLION, alpha=0.18, lw=0, label="test, range of sites")]
                if scores.sites
                else []
            ),
            Line2D([], [], color=canvas.BLUE, ls="--", label="validation, pooled"),
            Line2D([], [], color=canvas.GREY, ls=":", label=f"best round ({best})"),
            *(
                [Line2D([], [], color=canvas.GREEN, ls="-.", lw=1, label="external, pooled")]
                if abroad
                else []
            ),
        ],
    )
    unit = Unit.suited(max(ends.values()) if ends else 0)

    def at(round: int) -> float:
        return ends[round] / unit.seconds if ends else round

    columns = 1 if len(scores.metrics) == 1 else 2
    rows = max(1, math.ceil(len(scores.metrics) / columns))
    figure = sheet.figure(2.3 * rows if columns == 2 else 3.2)
    for place, metric in enumerate(scores.metrics, start=1):
        axes = figure.add_subplot(rows, columns, place)
        _curves(axes, scores, metric, best, {round: at(round) for round in scores.rounds})
        if ends is None:
            whole_rounds(axes, scores.rounds)
        if place > len(scores.metrics) - columns:
            axes.set_xlabel(f"virtual time ({unit.name})" if ends else "round")
    return figure


@canvas.style()
def site_bars(record: RunRecord) -> Figure:
    """Draw the final test value of the selection metric at each site, with the pooled one.

    With the bootstrap interval of each where it is known, and beside it the yardsticks.
    """
    scores, final, *others = Scores.of(record), *reached(record)
    metric = record.selection.metric
    found = [final.at("test", site, metric) for site in scores.sites]
    yardsticks = [part for part in others if part.method != "federated" and part.model == "final"]
    sheet = Canvas(
        f"Test {METRICS[metric].title} at each site after the final round ({final.round})",
        describe(record),
        " ".join(_explain_bars(record, final)),
        _bar_legend(yardsticks),
    )
    figure = sheet.figure(3.6, canvas.width_for(len(found)))
    axes = figure.subplots()
    _bars(axes, final, scores.sites, metric, eligible(record))
    for part in yardsticks:
        marker, colour, side = MARKERS[part.method]
        values = [finite_or_nan(part.at("test", site, metric).value) for site in scores.sites]
        places = [place + side for place in range(len(values))]
        size = 5 if len(values) <= MAX_WRITTEN else 4
        axes.plot(places, values, marker, color=colour, ms=size, mec="white", mew=0.6)
    if all(score.value is None for score in found):
        axes.set(ylim=(0, 1), yticks=[])
    pooled = final.at("test", POOLED, metric).value
    if pooled is not None:
        axes.axhline(pooled, color=canvas.BLACK, lw=1)
        label_ends(axes, {f"pooled {pooled:.3f}": (pooled, canvas.BLACK)})
    axes.set_ylabel(arrowed(metric))
    name_sites(axes, scores.sites, [f"n={score.num_valid}" for score in found])
    return figure


@canvas.style()
def label_distribution(record: RunRecord) -> Figure:
    """Draw the class counts of each site's training images, and their shares."""
    from matplotlib.patches import Patch

    sites, names = record.population["sites"], record.population["class_names"]
    drawn = record.population["drawn"]
    colours = canvas.class_colours(len(names))
    sheet = Canvas(
        "Classes in the training images that sites draw from"
        if drawn
        else "Classes in each site's training images",
        describe(record),
        "Above: how many; n is their sum. Below: the share of each class.",
        [
            Patch(color=colour, label=name, lw=0)
            for name, colour in zip(names, colours, strict=True)
        ],
    )
    figure = sheet.figure(4.4, canvas.width_for(len(sites)))
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, scale in ((above, [1] * len(sites)), (below, [sum(s["train"]) or 1 for s in sites])):
        bottom = [0.0] * len(sites)
        for index, colour in enumerate(colours):
            heights = [s["train"][index] / size for s, size in zip(sites, scale, strict=True)]
            axes.bar(range(len(sites)), heights, bottom=bottom, color=colour, ec="white", lw=0.4)
            bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    above.set_ylabel("training images")
    below.set_ylabel("share of class")
    below.set_ylim(0, 1)
    above.tick_params(axis="x", length=0, labelbottom=False)
    name_sites(below, [s["name"] for s in sites], [f"n={sum(s['train'])}" for s in sites])
    return figure


@canvas.style()
def loss_decomposition(record: RunRecord) -> Figure:
    """Draw the three terms of the global training loss, and their sum, over the rounds."""
    sheet = Canvas(
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
    axes.axhline(0, color=canvas.GREY, lw=0.8)
    ends = {}
    for term, (label, colour) in TERMS.items():
        values = [row["loss_decomposition"][term] for row in rows]
        end = plot(axes, rounds, values, color=colour, lw=2.2 if term == "global_loss" else 1.5)
        if end is not None:
            ends[label] = (end, colour)
    regression = record.scenario["data"]["task"] == "regression"
    axes.set_ylabel(f"training loss ({'squared error, as learned' if regression else 'nats'})")
    axes.set_xlabel("round")
    whole_rounds(axes, rounds)
    label_ends(axes, ends)
    return figure


def _explain_bars(record: RunRecord, final: Reached) -> Iterator[str]:
    """Yield how to read the bars, as far as there is something to explain."""
    metric, count = record.selection.metric, eligible(record)
    names = [site["name"] for site in record.population["sites"]]
    yield "n: test images of the site that the value counts."
    yield "Line: over those of all sites together."
    if any(("test", name, metric) in final.intervals for name in names):
        yield f"Whiskers: 95 % bootstrap intervals over the test {resampled(record)}."
    if len(count) < len(names):
        least = record.scenario["evaluation"]["min_per_class"]
        few = f"fewer than {least} test images{of_class(record, 'some')}"
        yield f"Pale: {few}, too few to be compared."
    if any(final.at("test", name, metric).value is None for name in names):
        where = METRICS[metric].undetermined_where
        yield f"Hatched: undefined{f', as it is where {where}' if where else ''}."


def _bar_legend(yardsticks: Sequence[Reached]) -> list[Artist]:
    """Return what tells bars and markers apart; nothing where there are bars alone."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    markers = [
        Line2D([], [], ls="", marker=marker, color=colour, label=METHODS[part.method])
        for part in yardsticks
        for marker, colour, _ in [MARKERS[part.method]]
    ]
    return [Patch(color=canvas.SKY, lw=0, label=METHODS["federated"]), *markers] if markers else []


def _bars(
    axes: Axes, final: Reached, sites: Sequence[str], metric: str, count: Sequence[str]
) -> None:
    upright = len(sites) > MAX_WRITTEN
    for place, site in enumerate(sites):
        value = final.at("test", site, metric).value
        if value is None:
            mark_undefined(axes, place, upright=upright)
            continue
        axes.bar(place, value, color=canvas.SKY if site in count else canvas.PALE)
        if interval := final.intervals.get(("test", site, metric)):
            axes.vlines(place, *interval, color=canvas.GREY, lw=1.2)
        if not upright or abs(value) < 0.0005:  # no height to see
            write_value(axes, place, value, upright=upright)


def _curves(
    axes: Axes, scores: Scores, metric: str, best: int, places: Mapping[int, float]
) -> None:
    """Draw one metric, each round at its place."""
    rounds, along = scores.rounds, list(places.values())
    sites = [scores.defined(round, "test", metric).values() for round in rounds]
    axes.fill_between(
        along,
        [min(values, default=math.nan) for values in sites],
        [max(values, default=math.nan) for values in sites],
        color=canvas.VERMILLION,
        alpha=0.18,
        lw=0,
    )
    abroad = [scores.at(round, "external", POOLED, metric).value for round in rounds]
    if any(value is not None for value in abroad):
        plot(axes, along, abroad, color=canvas.GREEN, ls="-.", lw=1)
    ends = []
    looks = (("test", canvas.VERMILLION, "-", 7), ("validation", canvas.BLUE, "--", 4))
    for split, colour, line, size in looks:  # narrower on top: equal ones both show
        values = [scores.at(round, split, POOLED, metric).value for round in rounds]
        ends.append(plot(axes, along, values, color=colour, ls=line))
        chosen = scores.at(best, split, POOLED, metric).value
        if chosen is not None:
            axes.plot(
                places[best], chosen, "o", ms=size, mfc="white", mec=colour, mew=1.4, zorder=4
            )
    axes.axvline(places.get(best, 0), color=canvas.GREY, ls=":", lw=1)
    axes.set_ylabel(arrowed(metric))
    if ends == [None, None]:
        axes.set_yticks([])
        axes.set_title("undefined in every round", size=9, color=canvas.GREY)
