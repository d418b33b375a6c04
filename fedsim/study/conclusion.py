"""What follows the last cell: the comparison, its tables and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedsim.bag_advice import Assumed
from fedsim.comparison import compare, foresee, tables
from fedsim.records.files import write_text, writing
from fedsim.records.study import COMPARISON, StudyRecord
from fedsim.report.study import write as write_page
from fedsim.study.design import Design
from fedsim.study.pilot import spread_record


def conclude(record: StudyRecord) -> StudyRecord:
    """Compare what is there, and write `comparison.json`, tables and page into the study folder.

    Args:
        record: of the study.

    Returns:
        The record with its comparison.

    Raises:
        RunError: if the system cannot write them.
    """
    content = compare(record)
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    write_text(record.folder / COMPARISON, text + "\n")
    compared = replace(record, comparison=content)
    write_report(compared)
    return compared


def write_report(record: StudyRecord, assumed: Assumed | None = None) -> Path:
    """Write the tables of a study's comparison, if it has one, and its page, which is returned.

    Args:
        record: of the study.
        assumed: of the responses of bags, to say which bag size theory calls best.

    Raises:
        RunError: if the system cannot write them.
    """
    folder = record.folder / "report"
    with writing(folder):
        folder.mkdir(exist_ok=True)
    if record.comparison:
        for name, table in tables(record.comparison).items():
            write_text(folder / name, table)
    return write_page(record, assumed)


def power(design: Design, out: str | Path = "runs") -> dict[str, Any] | None:
    """Return what the seeds of a study can show, as `fedsim.comparison.foresee` has it.

    Args:
        design: of the study.
        out: folder with the runs.

    Returns:
        None before there are final runs or a pilot's.
    """
    record = spread_record(design, out)
    return foresee(record) if record.cells else None
