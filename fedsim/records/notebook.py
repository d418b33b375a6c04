"""How a run shows itself in a notebook: a small table, one curve, and the way to its report.

Plain HTML and SVG without script or style sheet, from the record alone, also while the run goes on.
All that came from data or scenarios is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from clients.metrics import METRICS
from fedsim.data.source import POOLED

if TYPE_CHECKING:
    from fedsim.records.read import RunRecord

WIDTH, HEIGHT, LEFT, BELOW = 420, 140, 44, 22
"""Of the curve in pixels, with room for its numbers."""
COLOURS = {"test": "#D55E00", "validation": "#0072B2"}
NARROWEST = 1e-3
"""Range of values that the curve spreads over its height, at least."""


def summary(record: RunRecord) -> str:
    """Return in one line which run this is and how far it is."""
    done, asked = len(record.rounds), record.scenario["rounds"]
    state = "finished" if record.finished else f"{done} of {asked} rounds"
    return f"{record.scenario.get('name', '')}, {state}, {record.folder}"


def html(record: RunRecord) -> str:
    """Return what a notebook shows."""
    parts = [
        "<br>".join(
            [f"<div><strong>{escape(summary(record))}</strong>", *map(escape, _about(record))]
        ),
        _table(record),
        _curve(record),
        f"{_report(record.folder)}</div>",
    ]
    return "\n".join(part for part in parts if part)


def _about(record: RunRecord) -> Iterator[str]:
    """Yield what to know before looking at a number."""
    if description := record.scenario.get("description"):
        yield str(description)
    if record.population.get("images", {}).get("synthetic"):
        yield "synthetic images: results say nothing about patients"
    if record.ledger:
        yield "has a privacy ledger; fedsim ledger says whose privacy it promises, and how much"


def _table(record: RunRecord) -> str:
    """Return the values on pooled test images: of the final model with interval, of the best."""
    chosen = record.selection
    headings = ("test images, pooled", f"final (round {chosen.final_round})", "95 % interval")
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in _rows(record)
    )
    heads = "".join(f"<th>{escape(h)}</th>" for h in (*headings, f"best ({chosen.best_round})"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _rows(record: RunRecord) -> Iterator[tuple[str, ...]]:
    final, best = (
        _pooled(record, "test", round)
        for round in (record.selection.final_round, record.selection.best_round)
    )
    intervals = {
        row["metric"]: (row["low"], row["high"])
        for row in record.intervals
        if (row["method"], row["model"], row["split"], row["site"])
        == ("federated", "final", "test", POOLED)
    }
    for metric in record.scenario["evaluation"]["metrics"]:
        low, high = intervals.get(metric, (None, None))
        interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        title = METRICS[metric].title if metric in METRICS else metric
        yield title, _number(final.get(metric)), interval, _number(best.get(metric))


def _pooled(record: RunRecord, split: str, round: int) -> Mapping[str, float | None]:
    return {
        row["metric"]: row["value"]
        for row in record.metrics
        if (row["split"], row["site"], row["round"]) == (split, POOLED, round)
    }


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _curve(record: RunRecord) -> str:
    """Return the selecting metric over the rounds as SVG; nothing without two values."""
    metric = record.selection.metric
    curves = {split: _values(record, split, metric) for split in COLOURS}
    everything = [value for points in curves.values() for value in points.values()]
    if len(everything) < 2:
        return ""
    low, high = min(everything), max(everything)
    high = max(high, low + NARROWEST)
    last = max(max(points, default=0) for points in curves.values()) or 1

    def place(round: int, value: float) -> str:
        across = LEFT + round / last * (WIDTH - LEFT - 8)
        down = 8 + (high - value) / (high - low) * (HEIGHT - BELOW - 16)
        return f"{across:.1f},{down:.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{COLOURS[split]}" stroke-width="1.8" points="'
        + " ".join(place(round, value) for round, value in points.items())
        + '"/>'
        for split, points in curves.items()
    )
    key = " ".join(f'<tspan fill="{colour}">{split}</tspan>' for split, colour in COLOURS.items())
    title = escape(METRICS[metric].title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="11" fill="#777">'
        f"<title>{title} by round</title>{lines}"
        f'<text x="0" y="14">{high:.3f}</text><text x="0" y="{HEIGHT - BELOW - 4}">{low:.3f}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 6}">{title}, pooled, rounds 0 to {last}: {key}</text></svg>'
    )


def _values(record: RunRecord, split: str, metric: str) -> dict[int, float]:
    return {
        row["round"]: row["value"]
        for row in record.metrics
        if (row["split"], row["site"], row["metric"]) == (split, POOLED, metric)
        and row["value"] is not None
    }


def _report(folder: Path) -> str:
    page = folder / "report" / "index.html"
    if not page.is_file():
        return "<br><code>fedsim.write_report(record)</code> writes tables, figures and a page"
    here = Path.cwd()
    inside = page.absolute().is_relative_to(here)
    link = quote(os.path.relpath(page, here)) if inside else page.absolute().as_uri()
    return f'<br><a href="{escape(link)}" target="_blank">report</a>'
