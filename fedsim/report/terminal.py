"""The results as the terminal shows them: what fits into 80 columns, the rest is in the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fedsim.report import privacy
from fedsim.report.rows import Result, external, results
from fedsim.report.scores import METHODS, arrowed, describe
from fedsim.report.tables import HEADINGS, attack, bracketed, notes, result_cells, selection

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fedsim.records import RunRecord

PRINTED = ("pooled", "site mean ± sd", "worst site")
"""Headings of the results table of which there is room for."""
LABEL_WIDTH = 26


def render(record: RunRecord, console: Console) -> None:
    """Print the results: every metric of test images, the selecting one of external images.

    Of yardsticks and external images the final model alone.
    """
    from rich.text import Text

    console.print(Text(describe(record), style="bold"))
    if said := attack(record):
        console.print(Text(said))
    console.print(_results(record))
    if record.population["external"]:
        console.print(_external(record))
    console.print(Text(" ".join([selection(record), *notes(record)]).replace("*", "")))
    if (found := privacy.balance_of(record)) is not None:
        from fedsim.privacy.balance_words import summary

        for text in (*map(summary, found.federation), *privacy.stopped(record)):
            console.print(Text(text))


def _results(record: RunRecord) -> Table:
    from rich.text import Text

    table = _table()
    table.add_column("model", max_width=LABEL_WIDTH)
    for heading in PRINTED:
        justify: Literal["left", "right"] = "left" if heading == "worst site" else "right"
        table.add_column(heading, justify=justify, no_wrap=heading == "pooled")
    previous = ""
    for row, cells in zip(results(record), result_cells(record), strict=True):
        of_yardstick = row.method != "federated"
        if row.model == "best" and (of_yardstick or row.round == record.selection.final_round):
            continue
        if row.metric != previous:
            table.add_row(Text(arrowed(row.metric), style="bold"))
        line = dict(zip(HEADINGS, cells, strict=True))
        table.add_row(Text(f"  {_label(row)}"), *(Text(line[name]) for name in PRINTED))
        previous = row.metric
    return table


def _label(row: Result) -> str:
    """Return a short name of a model: of yardsticks only the final one is shown."""
    if row.method == "federated":
        return f"federated, {row.model} ({row.round})"
    return METHODS[row.method] + ("" if row.round is None else f" ({row.round})")


def _external(record: RunRecord) -> Table:
    from rich.text import Text

    metric = record.selection.metric
    table = _table()
    table.add_column("external test images (no site trained on these)")
    table.add_column(arrowed(metric), justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for row in external(record):
        if (row["metric"], row["model"]) == (metric, "final"):
            value = bracketed(row["value"], row["low"], row["high"])
            label = f"  {row['site']}, {METHODS[row['method']]}"
            table.add_row(*map(Text, (label, value, str(row["num_valid"]))))
    return table


def _table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
