"""Utility against epsilon: what each method reaches for what it promises, and who is on the front.

An arm is on the Pareto front if no other reaches as much for as small an epsilon, one of the two
strictly better. That is decided by means alone: it is a description, and no test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clients.metrics import METRICS
from fedsim.privacy.directed_rounding import rounded_down, rounded_up
from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas
from fedsim.report.scores import arrowed
from fedsim.report.study.looks import Look, legend, looks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALONE = "each site alone"
ALONE_LOOK = Look(canvas.GREY, "*", "none")
TESTS: Mapping[str, tuple[str, str]] = {
    "mechanism": (">", canvas.BLUE),
    "one-run": ("D", canvas.GREEN),
    "membership": ("s", canvas.PURPLE),
}
"""Test of an audit -> marker and colour of the epsilon that it shows at least."""
LINEAR = 0.5
"""Width in decades of the part of the axis between 0 and the smallest epsilon."""
ROW = 0.26
"""Inches of a line of the audits."""


@dataclass(frozen=True)
class Arm:
    """What a method reaches at an epsilon; settings that differ in nothing of this are one.

    Args:
        method: its name, or `ALONE`.
        epsilon: the largest of any site and seed; infinite where nothing is promised.
        mean: of the primary metric.
        low: end of its interval, the mean itself where there is none.
        high: likewise.
    """

    method: str
    epsilon: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Audited:
    """What an audit of one run of an arm found.

    Args:
        method: of the arm.
        epsilon: of the run's ledger.
        shown: test -> the largest epsilon that it shows at least.
        ceilings: test -> the largest that it can show; without those that have none.
        alarming: tests that found what cannot be.
    """

    method: str
    epsilon: float
    shown: Mapping[str, float]
    ceilings: Mapping[str, float]
    alarming: Set[str] = frozenset()


def arms(comparison: Mapping[str, Any], unit: str) -> list[Arm]:
    """Return every arm of a study once, by what it promises to units of one kind."""
    metric = comparison["primary"]["metric"]
    promised = {
        (row["setting"], row["method"]): promise(row["highest"])
        for row in comparison["epsilon_summary"]
        if row["unit"] == unit
    }
    found = [
        _arm(row["method"], promised.get((row["setting"], row["method"]), math.inf), row)
        for row in comparison["summary"]
        if row["metric"] == metric and row["mean"] is not None
    ]
    found += [
        _arm(ALONE, math.inf if payer is None else promised[row["setting"], payer], row)
        for row in comparison["yardsticks"]
        if row["metric"] == metric and row["yardstick"] == "local"
        for payer in [row.get("paid_as")]
        if payer is None or (row["setting"], payer) in promised
    ]
    return list(dict.fromkeys(found))


def front(found: Sequence[Arm], *, higher_is_better: bool) -> list[Arm]:
    """Return the arms that no other beats, by ascending epsilon."""
    sign = 1 if higher_is_better else -1

    def beaten(arm: Arm) -> bool:
        return any(
            other.epsilon <= arm.epsilon
            and sign * other.mean >= sign * arm.mean
            and (other.epsilon, other.mean) != (arm.epsilon, arm.mean)
            for other in found
        )

    return sorted((a for a in found if not beaten(a)), key=lambda arm: (arm.epsilon, arm.method))


@canvas.style()
def utility(
    comparison: Mapping[str, Any], unit: str, audits: Sequence[Audited], study: str
) -> Figure:
    """Draw the arms of a study, and below them on the same axis what audits found.

    Args:
        comparison: of the study.
        unit: whose presence is hidden.
        audits: of single runs; none leave the lower part out.
        study: how figures call it.
    """
    primary = comparison["primary"]
    found = arms(comparison, unit)
    best = front(found, higher_is_better=primary["higher_is_better"])
    shown = looks(comparison["methods"], primary["reference"]) | {ALONE: ALONE_LOOK}
    names = [name for name in shown if any(arm.method == name for arm in found)]
    sheet = Canvas(
        f"{METRICS[primary['metric']].title} against epsilon, {unit} level",
        study,
        "Mean over seeds and its interval (Student's t); epsilon of one run, the largest of any "
        "site and seed, without what tuning costs. Filled and joined: the Pareto front, which "
        "means alone decide; arms whose intervals overlap may change places. Epsilons of other "
        "units are another matter." + " Below: what audits of one run each showed at least, and "
        "the most that the test could have shown." * bool(audits),
        [*legend(names, shown), *_marks(audits)],
    )
    heights = [3.6, *([0.5 + ROW * len(audits)] if audits else [])]
    figure = sheet.figure(sum(heights))
    panels = list(
        figure.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights).flat
    )
    without = _scale(panels[-1], found, audits)
    _draw(panels[0], found, best, shown, without)
    panels[0].set_ylabel(f"test {arrowed(primary['metric'])}")
    if audits:
        _draw_audits(panels[1], audits)
    panels[-1].set_xlabel("epsilon (right of the line: no promise)")
    return figure


def words(comparison: Mapping[str, Any], unit: str, audits: Sequence[Audited]) -> str:
    """Return what the figure shows, in words."""
    primary = comparison["primary"]
    found = arms(comparison, unit)
    best = front(found, higher_is_better=primary["higher_is_better"])
    said = ", ".join(f"{_named(a.method, a.epsilon)} {a.mean:.3f}" for a in found)
    on_it = ", ".join(_named(a.method, a.epsilon) for a in best)
    audited = "; ".join(
        f"{_named(one.method, one.epsilon)}: "
        + ", ".join(
            f"{test} at least {rounded_down(value, '.2f')}" for test, value in one.shown.items()
        )
        for one in audits
    )
    return (
        f"{METRICS[primary['metric']].title} against epsilon, {unit} level: {said}. On the Pareto "
        f"front: {on_it}." + f" Audits: {audited}." * bool(audits)
    )


def promise(epsilon: float | None) -> float:
    """Return an epsilon rounded up to hundredths, so that equal budgets are equal."""
    return math.inf if epsilon is None else float(rounded_up(epsilon, ".2f"))


def _arm(method: str, epsilon: float, row: Mapping[str, Any]) -> Arm:
    mean = row["mean"]
    low, high = (mean if row[end] is None else row[end] for end in ("low", "high"))
    return Arm(method, epsilon, mean, low, high)


def _named(method: str, epsilon: float) -> str:
    return f"{method} ({'no promise' if math.isinf(epsilon) else f'epsilon {promise(epsilon):g}'})"


def _scale(axes: Axes, found: Sequence[Arm], audits: Sequence[Audited]) -> float:
    """Scale the axis of epsilon, and return where arms stand that promise nothing."""
    from matplotlib.ticker import NullLocator

    finite = [arm.epsilon for arm in found if math.isfinite(arm.epsilon)]
    positive = [epsilon for epsilon in finite if epsilon > 0]
    smallest = min(positive, default=1.0)
    without = 2 * max(smallest, *finite, *(e for one in audits for e in one.ceilings.values()))
    axes.set_xscale("symlog", linthresh=smallest, linscale=LINEAR)
    ticks = sorted({float(f"{epsilon:.2g}") for epsilon in positive})
    axes.set_xticks([0, *ticks, without], ["0", *(f"{tick:g}" for tick in ticks), "none"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0 if audits else 0.8 * min(finite), 1.25 * without)
    for panel in axes.figure.axes:
        panel.axvline(without / 2**0.5, color=canvas.GREY, lw=0.8, ls=":")
    return without


def _draw(
    axes: Axes,
    found: Sequence[Arm],
    best: Sequence[Arm],
    shown: Mapping[str, Look],
    without: float,
) -> None:
    def place(epsilon: float) -> float:
        return without if math.isinf(epsilon) else epsilon

    axes.plot(
        [place(arm.epsilon) for arm in best],
        [arm.mean for arm in best],
        color=canvas.PALE,
        lw=5,
        zorder=1,
        solid_capstyle="round",
        drawstyle="steps-post",
    )
    methods = list(shown)
    for arm in found:
        look, aside = shown[arm.method], methods.index(arm.method) - (len(methods) - 1) / 2
        axes.errorbar(
            place(arm.epsilon) * (1 + 0.02 * aside),
            arm.mean,
            yerr=[[arm.mean - arm.low], [arm.high - arm.mean]],
            color=look.colour,
            ls="none",
            marker=look.marker,
            ms=6,
            mfc=look.colour if arm in best else "white",
            elinewidth=0.9,
            label=arm.method,
        )


def _draw_audits(axes: Axes, audits: Sequence[Audited]) -> None:
    for row, one in enumerate(audits):
        axes.plot(one.epsilon, row, marker="|", ms=13, mew=2.5, color=canvas.BLACK)
        for test, value in one.shown.items():
            marker, colour = TESTS[test]
            if test in one.ceilings:
                ceiling = one.ceilings[test]
                axes.plot([value, ceiling], [row, row], color=colour, lw=0.8, ls=":")
                axes.plot(ceiling, row, marker="|", ms=8, mew=1, color=colour)
            axes.plot(value, row, marker=marker, ms=5, color=colour, ls="none", clip_on=False)
    names = [f"{shorten(one.method)}, {promise(one.epsilon):g}" for one in audits]
    axes.set_yticks(range(len(audits)), names)
    axes.set_ylim(len(audits) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)


def _marks(audits: Sequence[Audited]) -> Iterator[Artist]:
    """Yield what the marks of audits mean."""
    from matplotlib.lines import Line2D

    if audits:
        bar: dict[str, Any] = {"marker": "|", "ls": "none"}
        yield Line2D([], [], color=canvas.BLACK, ms=11, mew=2.5, label="by its ledger", **bar)
        yield Line2D([], [], color=canvas.GREY, ms=8, mew=1, label="ceiling of a test", **bar)
    for test, (marker, colour) in TESTS.items():
        if any(test in one.shown for one in audits):
            label = f"{test}: at least"
            yield Line2D([], [], color=colour, marker=marker, ms=5, ls="none", label=label)
