"""The report of a study: one page, made from its record and its comparison alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedsim.comparison import within_bounds
from fedsim.records.files import write_bytes, writing
from fedsim.report.document import render
from fedsim.report.study.page import document
from fedsim.report.study.subject import Study

if TYPE_CHECKING:
    from pathlib import Path

    from fedsim.bag_advice import Assumed
    from fedsim.records.study import StudyRecord

__all__ = ["write"]


def write(record: StudyRecord, assumed: Assumed | None = None) -> Path:
    """Write the page of a study into its folder `report` and return the file.

    A study that is not finished has a page that says so.

    Args:
        record: of the study.
        assumed: of the responses of bags, to say which bag size theory calls best.

    Raises:
        RunError: if the system cannot write it.
    """
    comparison = within_bounds(record.comparison) if record.comparison else {}
    content = render(document(Study(record, comparison, assumed)))
    folder = record.folder / "report"
    with writing(folder):
        folder.mkdir(exist_ok=True)
    write_bytes(folder / "index.html", content)
    return folder / "index.html"
