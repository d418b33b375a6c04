"""A run's report: figures, tables and one page with both, made from its record.

The same record gives the same bytes, so a report can be written again at any time and compared.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fedsim.records.files import sweep, write_bytes, writing
from fedsim.report import canvas, figures, rows, samples, tables
from fedsim.report.document import render as render_page
from fedsim.report.document import run as run_page
from fedsim.report.document.alternatives import alternative
from fedsim.report.document.pictures import drawing
from fedsim.report.terminal import render
from fedsim.spreadsheet import to_csv

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fedsim.records import RunRecord

__all__ = ["render", "results", "write"]

FOLDER = "report"
"""Where the report lies inside the run's folder."""
PAGE = "index.html"


def results(record: RunRecord) -> list[dict[str, Any]]:
    """Return the results table as plain data, with the keys of `tables.Result`."""
    return [asdict(row) for row in rows.results(record)]


def write(record: RunRecord) -> list[Path]:
    """Write the report of a run into its folder and return the files, the page last.

    Each file appears whole or not at all; those of an earlier report are replaced.

    Raises:
        RunError: if the system cannot write one of them.
    """
    contents: dict[str, bytes] = {
        "results.csv": rows.results_csv(record).encode(),
        "sites.csv": rows.sites_csv(record).encode(),
    }
    if abroad := rows.local_models(record):
        contents["local_models.csv"] = to_csv(abroad).encode()
    if apart := rows.external(record):
        contents["external.csv"] = to_csv(apart).encode()
    text, pictures = tables.to_markdown(record), {}
    for name, figure in figures.draw(record).items():
        for format in ("png", "svg"):
            contents[f"{name}.{format}"] = canvas.encode(figure, format)
        text += f"\n![{name.replace('_', ' ')}]({name}.png)\n"
        pictures[name] = drawing(contents[f"{name}.svg"], alternative(name, record))
    contents["results.md"] = text.encode()
    if sheet := samples.contact_sheet_of(record):
        contents[samples.FILE] = sheet
        pictures["contact_sheet"] = drawing(sheet, alternative("contact_sheet", record))
    contents[PAGE] = render_page(run_page.document(run_page.Run(record, pictures)))
    return _put(record.folder / FOLDER, contents)


def _put(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    with writing(folder):
        folder.mkdir(exist_ok=True)
        sweep(folder)
    for name, data in contents.items():
        write_bytes(folder / name, data)
    return [folder / name for name in contents]
