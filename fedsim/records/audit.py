"""`audit.json` in a run folder: what an audit found. Nothing else of the folder depends on it.

digest             str       of the run
confidence         float     of every interval
familywise_error   float     probability with which a correct run raises any alarm, about
accounted          list      by kind of unit: unit, site, delta, epsilon (null: infinite) of the
                             ledger, and the largest advantage and true positive rate at a false
                             positive rate of 1 % of any attack; empty where nothing is private
tests              object    by name of the test, those that were done:
    options        object        what decides its numbers
    notes          list[str]     how to read it, or why it does not apply
    picture        str|null      file beside this one
    findings       list          figure, of, value, low, high, claim, epsilon, ceiling, alarm,
                                     note; see
                                 `fedsim.audit.finding.Finding`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsim.errors import InputError
from fedsim.records.files import write_bytes, write_text

AUDIT = "audit.json"
FORMAT = 1
_NEEDED = {"format", "digest", "confidence", "familywise_error", "accounted", "tests"}
_FIGURES = {"value", "low", "high", "claim", "epsilon", "ceiling"}
_FINDING = {"figure", "of", *_FIGURES, "alarm", "note"}


def read_audit(folder: Path) -> dict[str, Any] | None:
    """Return what `audit.json` of a run folder holds, None if there is none.

    Raises:
        InputError: if it is damaged or of another format.
    """
    file = folder / AUDIT
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not content.keys() >= _NEEDED or content["format"] != FORMAT:
            raise ValueError("it has not the keys of this format")
        for outcome in content["tests"].values():
            if any(finding.keys() != _FINDING for finding in outcome["findings"]):
                raise ValueError("a finding has not the keys of this format")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: is damaged: {error}; remove it and audit again") from error
    return dict(content)


def write_audit(
    folder: Path, content: Mapping[str, Any], pictures: Mapping[str, bytes]
) -> dict[str, Any]:
    """Write `audit.json` and the pictures that it names, and return what it holds."""
    whole = {"format": FORMAT, **content}
    for name, picture in pictures.items():
        write_bytes(folder / name, picture)
    write_text(folder / AUDIT, json.dumps(whole, indent=2, allow_nan=False) + "\n")
    return whole


def alarms(content: Mapping[str, Any]) -> list[str]:
    """Return what cannot be, of all tests in an audit."""
    return [
        finding["alarm"]
        for outcome in content["tests"].values()
        for finding in outcome["findings"]
        if finding["alarm"]
    ]
