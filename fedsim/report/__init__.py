"""A run's report: figures and tables, made from its record alone.

The same record gives the same bytes, so a report can be written again at any time and compared.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fedsim.records.files import write_bytes, writing
from fedsim.report import figures, page, rows, tables
from fedsim.report.terminal import render

if TYPE_CHECKING:
    from pathlib import Path

    from fedsim.records import RunRecord

__all__ = ["render", "results", "write"]

FOLDER = "report"
"""Where the report lies inside the run's folder."""


def results(record: RunRecord) -> list[dict[str, Any]]:
    """Return the results table as plain data, with the keys of `tables.Result`."""
    return [asdict(row) for row in rows.results(record)]


def write(record: RunRecord) -> list[Path]:
    """Write the report of a run into its folder and return the files.

    Each file appears whole or not at all; those of an earlier report are replaced.

    Raises:
        RunError: if the system cannot write one of them.
    """
    contents: dict[str, bytes] = {
        "results.csv": rows.results_csv(record).encode(),
        "sites.csv": rows.sites_csv(record).encode(),
    }
    if abroad := rows.local_models(record):
        contents["local_models.csv"] = rows.to_csv(abroad).encode()
    if apart := rows.external(record):
        contents["external.csv"] = rows.to_csv(apart).encode()
    text = tables.to_markdown(record)
    for name, figure in figures.draw(record).items():
        for format in ("png", "svg"):
            contents[f"{name}.{format}"] = page.encode(figure, format)
        text += f"\n![{name.replace('_', ' ')}]({name}.png)\n"
    contents["results.md"] = text.encode()
    folder = record.folder / FOLDER
    with writing(folder):
        folder.mkdir(exist_ok=True)
    for name, data in contents.items():
        write_bytes(folder / name, data)
    return [folder / name for name in contents]
