"""A few runs that stand for a whole study."""

from __future__ import annotations

from fedsim.errors import InputError
from fedsim.records.read import RunRecord, read
from fedsim.records.study import StudyRecord


def examples(record: StudyRecord) -> dict[tuple[str, str], RunRecord]:
    """Return one readable run by method and setting, a final one where there is one."""
    found: dict[tuple[str, str], RunRecord] = {}
    for cell in sorted(record.cells, key=lambda cell: cell.purpose != "final"):
        if cell.status == "done" and (cell.method, cell.setting) not in found:
            try:
                found[cell.method, cell.setting] = read(cell.folder)
            except InputError:
                continue
    return found
