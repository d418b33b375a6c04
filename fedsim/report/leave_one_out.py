"""What a model does at a hospital that took no part: one table over the runs without each site."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.records.files import write_text
from fedsim.report.scores import Scores, arrowed
from fedsim.report.tables import bracketed, number
from fedsim.spreadsheet import to_csv

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from fedsim.records import RunRecord

NOTE = (
    "Each row: the final model of a run in which this site did not train, on all images of the "
    "site. In brackets: 95 % bootstrap intervals of these images. Mean and standard deviation are "
    "over sites; the runs share most of their training images, so the spread is no confidence "
    "interval."
)

PRIVATE = (
    "These runs are private one by one: each epsilon is that of one model, as if there were no "
    "other. Sites train in all runs but one, on the same random numbers, so that two of the "
    "models together tell what the noise of each hides. The table is for those who hold the "
    "images; publish one model."
)


def notes(records: Sequence[RunRecord]) -> list[str]:
    """Return how to read the table, and what it says of privacy."""
    return [NOTE, PRIVATE] if any(record.ledger for record in records) else [NOTE]


def rows(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return one row per site held out, model and metric, as plain data.

    `seen` is the pooled test value of the sites that trained, for comparison.

    Args:
        records: one finished run per site held out.
    """
    return [
        _row(record, scores, model, round, metric)
        for record in records
        for scores in [Scores.of(record)]
        for metric in scores.metrics
        for model, round in (
            ("final", record.selection.final_round),
            ("best", record.selection.best_round),
        )
    ]


def to_markdown(records: Sequence[RunRecord]) -> str:
    """Return the table for people."""
    headings, cells = _cells(records, {row["metric"] for row in rows(records)})
    lines = [headings, ["---"] * len(headings), *cells]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    name, said = records[0].scenario["name"], "\n\n".join(notes(records))
    return f"# {name}: leave one site out\n\n{table}\n\n{said}\n"


def render(records: Sequence[RunRecord], console: Console) -> None:
    """Print the table to the terminal, with intervals of the selecting metric alone."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headings, cells = _cells(records, {records[0].selection.metric})
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(Text(heading))
    for line in cells:
        table.add_row(*map(Text, line))
    console.print(table)
    for note in notes(records)[1:]:
        console.print(note)


def write(records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Write the table into the folder of the runs and return the files."""
    contents = {
        "leave_one_site_out.csv": to_csv(rows(records)),
        "leave_one_site_out.md": to_markdown(records),
    }
    for name, text in contents.items():
        write_text(folder / name, text)
    return [folder / name for name in contents]


def _row(record: RunRecord, scores: Scores, model: str, round: int, metric: str) -> dict[str, Any]:
    (site,) = record.scenario["population"]["holdout_sites"]
    found = scores.at(round, "external", site, metric)
    interval = next(
        (
            row
            for row in record.intervals
            if (row["method"], row["model"], row["split"], row["site"], row["metric"])
            == ("federated", model, "external", POOLED, metric)
        ),
        {"low": None, "high": None},
    )
    return {
        "site": site,
        "metric": metric,
        "model": model,
        "round": round,
        "value": found.value,
        "low": interval["low"],
        "high": interval["high"],
        "num_examples": found.num_examples,
        "num_valid": found.num_valid,
        "seen": scores.at(round, "test", POOLED, metric).value,
    }


def _cells(
    records: Sequence[RunRecord], with_intervals: set[str]
) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines: one per site held out, then mean, spread and worst over them.

    Args:
        records: of the runs.
        with_intervals: metrics whose intervals are shown.
    """
    final = [row for row in rows(records) if row["model"] == "final"]
    metrics = list(dict.fromkeys(row["metric"] for row in final))
    by_site: dict[str, dict[str, dict[str, Any]]] = {}
    for row in final:
        by_site.setdefault(row["site"], {})[row["metric"]] = row
    lines = [
        [
            site,
            str(found[metrics[0]]["num_examples"]),
            *(_value(found[m], m in with_intervals) for m in metrics),
        ]
        for site, found in by_site.items()
    ]
    values = {
        m: [row["value"] for row in final if row["metric"] == m and row["value"] is not None]
        for m in metrics
    }
    lines.append(["mean ± sd", "", *(_spread(values[m]) for m in metrics)])
    lines.append(["worst", "", *(_worst(m, values[m]) for m in metrics)])
    return ["site held out", "n", *map(arrowed, metrics)], lines


def _value(row: dict[str, Any], shown: bool) -> str:
    if not shown:
        return number(row["value"])
    return bracketed(row["value"], row["low"], row["high"])


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return number(statistics.fmean(values) if values else None)
    return f"{number(statistics.fmean(values))} ± {number(statistics.stdev(values))}"


def _worst(metric: str, values: list[float]) -> str:
    worst_of = min if METRICS[metric].higher_is_better else max
    return number(worst_of(values, default=None))
