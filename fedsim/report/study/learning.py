"""Learning curves of a study: what its runs recorded on validation images, over the seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.errors import InputError
from fedsim.records import read
from fedsim.report import canvas
from fedsim.report.axes import label_ends, shorten, whole_rounds
from fedsim.report.canvas import Canvas
from fedsim.report.scores import arrowed, finite_or_nan
from fedsim.report.study.looks import legend, looks
from fedsim.report.timeline import Unit, clock

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedsim.records import RunRecord
    from fedsim.records.study import StudyRecord

Seed = tuple[dict[int, float], dict[int, float]]
"""Of one run: round -> value, and round -> virtual second at which it ended."""


@dataclass(frozen=True)
class Curve:
    """A metric on validation images over the rounds, of all seeds of a method in a setting.

    Args:
        rounds: evaluated.
        mean: over the seeds, nan where one has no value.
        sd: sample standard deviation over them.
        ends: mean virtual seconds at which each round ended; empty without a clock.
        num_seeds: how many.
    """

    rounds: Sequence[int]
    mean: Sequence[float]
    sd: Sequence[float]
    ends: Sequence[float]
    num_seeds: int


def learning(record: StudyRecord, metric: str) -> dict[str, dict[str, Curve]]:
    """Return a curve for each setting and method that has finished runs with a value.

    Where no site has a label for its validation images, most metrics have none.

    Args:
        record: of the study.
        metric: on pooled validation images.
    """
    runs: dict[str, dict[str, list[Seed]]] = {}
    for cell in record.cells:
        if (cell.purpose, cell.status) != ("final", "done"):
            continue
        try:
            run = read(cell.folder)
        except InputError:
            continue
        runs.setdefault(cell.setting, {}).setdefault(cell.method, []).append(_seed(run, metric))
    curves = {
        setting: {
            method: curve
            for method in record.methods
            if method in by_method
            and any(map(math.isfinite, (curve := _curve(by_method[method])).mean))
        }
        for setting in record.settings
        if (by_method := runs.get(setting))
    }
    return {setting: by_method for setting, by_method in curves.items() if by_method}


def _seed(run: RunRecord, metric: str) -> Seed:
    values = {
        row["round"]: finite_or_nan(row["value"])
        for row in run.metrics
        if (row["split"], row["site"], row["metric"]) == ("validation", POOLED, metric)
    }
    return values, clock(run)


def _curve(seeds: Sequence[Seed]) -> Curve:
    """Return the curve of the rounds that all seeds have evaluated."""
    rounds = sorted(set.intersection(*(set(values) for values, _ in seeds)))
    timed = all(ends for _, ends in seeds)
    return Curve(
        rounds=rounds,
        mean=[_mean(values[round] for values, _ in seeds) for round in rounds],
        sd=[_sd([values[round] for values, _ in seeds]) for round in rounds],
        ends=[_mean(ends[round] for _, ends in seeds) for round in rounds] if timed else [],
        num_seeds=len(seeds),
    )


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _sd(values: Sequence[float]) -> float:
    defined = all(map(math.isfinite, values))
    return statistics.stdev(values) if len(values) > 1 and defined else math.nan


@canvas.style()
def curves(
    found: Mapping[str, Curve],
    comparison: Mapping[str, Any],
    study: str,
    *,
    over_time: bool = False,
) -> Figure:
    """Draw the primary metric on validation images over the rounds, a line for each method."""
    metric, reference = comparison["primary"]["metric"], comparison["primary"]["reference"]
    shown = looks(comparison["methods"], reference)
    sheet = Canvas(
        f"{METRICS[metric].title} on validation images, by "
        + ("virtual time" if over_time else "round"),
        study,
        "Lines: mean over the seeds. Bands: one standard deviation over them to each side, cut "
        "to the metric's range."
        + (" Virtual time is simulated, not measured." if over_time else ""),
        legend([method for method in comparison["methods"] if method in found], shown),
    )
    figure = sheet.figure(3.8)
    axes = figure.subplots()
    unit = Unit.suited(max((c.ends[-1] for c in found.values() if c.ends), default=0))
    ends: dict[str, tuple[float, str]] = {}
    for method, curve in found.items():
        look = shown[method]
        along = [x / unit.seconds for x in curve.ends] if over_time else list(curve.rounds)
        mean, sd = np.array(curve.mean), np.array(curve.sd)
        low, high = (np.clip(mean + side * sd, *METRICS[metric].bounds) for side in (-1, 1))
        axes.fill_between(along, low, high, color=look.colour, alpha=0.1, lw=0)
        axes.plot(
            along,
            curve.mean,
            color=look.colour,
            ls=look.line,
            lw=2 if method == reference else 1.5,
            marker=look.marker,
            ms=4.5,
            markevery=max(1, len(along) // 8),
        )
        last = [value for value in curve.mean if not math.isnan(value)]
        if last:
            ends[shorten(method)] = (last[-1], canvas.BLACK)
    axes.set_ylabel(arrowed(metric))
    axes.set_xlabel(f"virtual time ({unit.name})" if over_time else "round")
    if not over_time:
        whole_rounds(axes, sorted({round for curve in found.values() for round in curve.rounds}))
    label_ends(axes, ends)
    return figure
