"""What an audit found, on the page of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim.records.audit import alarms, read_audit
from fedsim.report.audit import ALARM, HEADINGS, accounted, cells, remarks, title
from fedsim.report.document.parts import Block, Cell, Sentences, Table, Text
from fedsim.report.document.pictures import photograph

if TYPE_CHECKING:
    from fedsim.records import RunRecord

KEYS = ("figure", "of", "value", "low", "claim", "epsilon", "ceiling", "alarm")
"""What the columns under `HEADINGS` are sorted by."""


def alarmed(record: RunRecord) -> Iterator[Block]:
    """Yield the alarms of an audit, if there was one and it raised any."""
    found = read_audit(record.folder)
    for alarm in alarms(found) if found else ():
        yield Text(f"The audit found what cannot be: {alarm}.", "warning")


def blocks(record: RunRecord) -> Iterator[Block]:
    """Yield what an audit found, nothing if there was none."""
    found = read_audit(record.folder)
    if found is None:
        return
    yield Sentences(list(accounted(found)))
    for name, outcome in found["tests"].items():
        yield from _tested(record, title(name), outcome)


def _tested(record: RunRecord, heading: str, outcome: Mapping[str, Any]) -> Iterator[Block]:
    """Yield what one test came to."""
    said = " ".join(remarks(outcome))
    if not outcome["findings"]:
        yield Text(f"{heading} {said}", "note")
        return
    rows = [
        [
            Cell(text, finding[key], "bad" if text == ALARM else "")
            for text, key in zip(cells(finding), KEYS, strict=True)
        ]
        for finding in outcome["findings"]
    ]
    yield Table(heading, HEADINGS, rows, said)
    if outcome["picture"]:
        file = record.folder / Path(outcome["picture"]).name
        if file.is_file():
            yield photograph(file.read_bytes(), f"{heading} {said}")
