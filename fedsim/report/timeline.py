"""The virtual clock in pictures: who works when, who waits, and for how long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedsim.report import canvas
from fedsim.report.axes import shorten
from fedsim.report.canvas import Canvas
from fedsim.report.scores import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fedsim.records import RunRecord

ROUNDS_SHOWN = 8
SITES_SHOWN = 40
TALL = 0.78
"""Height of a bar, as a share of its row."""
UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))


@dataclass(frozen=True)
class Unit:
    """A unit of time.

    Args:
        seconds: in one.
        name: of it.
    """

    seconds: float
    name: str

    @classmethod
    def suited(cls, seconds: float) -> Unit:
        """Return the largest unit of which so long a time is at least two, or else the smallest.

        >>> Unit.suited(120.0).name, Unit.suited(119.0).name
        ('min', 's')
        """
        return cls(*next((unit for unit in UNITS if seconds >= 2 * unit[0]), UNITS[-1]))


def clock(record: RunRecord) -> dict[int, float]:
    """Return when each round ended, in virtual seconds; round 0 at 0. Empty without a clock."""
    ends = {row["round"]: row["virtual"]["end_s"] for row in record.rounds if row["virtual"]}
    return {0: 0.0, **ends} if ends else {}


def computing_share(record: RunRecord) -> dict[str, float]:
    """Return the share of the whole virtual time that each site spends on computing."""
    total = max(clock(record).values(), default=0.0)
    busy: defaultdict[str, float] = defaultdict(float)
    for task in _tasks(record.rounds):
        busy[task["site"]] += task["computed_s"] - task["downloaded_s"]
    return {site: seconds / total if total else 0.0 for site, seconds in busy.items()}


@canvas.style()
def timeline(record: RunRecord) -> Figure:
    """Draw the first rounds: for each site when it loads, computes and sends, or is idle."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown = [row for row in record.rounds if row["virtual"]][:ROUNDS_SHOWN]
    devices = record.population["devices"]
    names = list(devices)
    busy = computing_share(record)
    end = shown[-1]["virtual"]["end_s"]
    tasks = [task for task in _tasks(record.rounds) if task["start_s"] < end]
    seen = {task["site"] for task in tasks}
    rows = [name for name in names if name in seen][:SITES_SHOWN] or names[:1]
    late = not all(task["counted"] for task in tasks)
    hidden = len(names) - len(rows)
    sheet = Canvas(
        f"Who works when, rounds {shown[0]['round']} to {shown[-1]['round']}, in virtual time",
        describe(record),
        "White: idle. On the right: the share of the whole run's virtual time that the site "
        "computes. Times are simulated from operations, bytes and device profiles, not measured."
        + (f" Sites that do not take part here or have no room: {hidden}." if hidden else ""),
        [
            Patch(color=canvas.BLUE, lw=0, label="computes"),
            Patch(color=canvas.SKY, lw=0, label="receives or sends"),
            *([Patch(color=canvas.ORANGE, lw=0, label="works in vain (late)")] if late else []),
            Line2D([], [], color=canvas.GREY, ls=":", lw=1, label="new global model"),
        ],
    )
    figure = sheet.figure(0.5 + 0.2 * max(len(rows), 4))
    axes = figure.subplots()
    unit = Unit.suited(end)
    for place, name in enumerate(rows):
        _bars(axes, place, [task for task in tasks if task["site"] == name], unit)
        axes.annotate(
            f"{100 * busy.get(name, 0):.0f} %",
            (1.01, place),
            xycoords=axes.get_yaxis_transform(),
            va="center",
            size=7,
        )
    for row in shown:
        axes.axvline(row["virtual"]["end_s"] / unit.seconds, color=canvas.GREY, ls=":", lw=1)
    axes.set_yticks(range(len(rows)), [f"{shorten(name)}, {devices[name]}" for name in rows])
    axes.tick_params(axis="y", length=0, labelsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, end / unit.seconds or 1)
    axes.grid(visible=False)
    axes.set_xlabel(f"virtual time ({unit.name})")
    return figure


def _tasks(rounds: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for row in rounds:
        yield from row["virtual"]["tasks"] if row["virtual"] else ()


def _bars(axes: Axes, place: int, tasks: Sequence[Mapping[str, Any]], unit: Unit) -> None:
    """Draw the row of one site."""
    parts: dict[str, list[tuple[float, float]]] = {
        canvas.BLUE: [],
        canvas.SKY: [],
        canvas.ORANGE: [],
    }
    for task in tasks:
        start, downloaded, computed, uploaded = (
            task[f"{key}_s"] / unit.seconds
            for key in ("start", "downloaded", "computed", "uploaded")
        )
        wire, work = (
            (canvas.SKY, canvas.BLUE) if task["counted"] else (canvas.ORANGE, canvas.ORANGE)
        )
        parts[wire] += [(start, downloaded - start), (computed, uploaded - computed)]
        parts[work].append((downloaded, computed - downloaded))
    for colour, spans in parts.items():
        axes.broken_barh(spans, (place - TALL / 2, TALL), fc=colour, ec="white", lw=0.5)
