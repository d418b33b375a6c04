"""CSV files in which a spreadsheet finds no formula, whatever the names of sites and files are.

A cell of text that begins with `=`, `+`, `-` or `@` is computed by Excel, LibreOffice and Google
Sheets when they open a file, and a formula can start programs. Such text gets an apostrophe in
front, which these programs take for "this is text". `unguarded` takes it off again, so that what is
read is what was meant.

Source: OWASP, CSV Injection. Numbers are written as they are.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_COMPUTED = re.compile(
    "'*[=+@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}\t\r\n-]"
)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; None and what a row lacks become empty cells, what is nested JSON.

    >>> print(to_csv([{"site": "=1+1", "value": -0.5}, {"site": "Bern", "of": {"a": 1}}]))
    site,value,of
    '=1+1,-0.5,
    Bern,,"{""a"": 1}"
    <BLANKLINE>
    """
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(guarded, names))
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return text.getvalue()


def guarded(text: str) -> str:
    """Return text that no spreadsheet computes.

    >>> guarded("=HYPERLINK(...)"), guarded("Bern")
    ("'=HYPERLINK(...)", 'Bern')
    """
    return f"'{text}" if _COMPUTED.match(text) else text


def unguarded(text: str) -> str:
    """Return the text of a cell that may be guarded.

    >>> [unguarded(guarded(text)) for text in ("=1", "'=1", "'Bern")]
    ['=1', "'=1", "'Bern"]
    """
    return text[1:] if text.startswith("'") and _COMPUTED.match(text) else text


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return guarded(value)
    return json.dumps(value) if isinstance(value, dict | list) else value
