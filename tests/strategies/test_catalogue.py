"""docs/strategies.md names every strategy and server optimizer, with all its keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from strategies import BUILTIN, SERVER_OPTIMIZERS

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text(encoding="utf-8")


def rows(section: str) -> dict[str, list[str]]:
    """Return kind -> keys of a section's table, in the order of its rows."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert text is not None
    cells = [
        re.split(r"(?<!\\)\|", line)[1:-1]
        for line in text[1].splitlines()
        if line.startswith("| `")
    ]
    assert all(len(row) == 5 and all(cell.strip() for cell in row) for row in cells)
    return {row[0].strip(" `"): re.findall(r"`(\w+)`", row[2]) for row in cells}


@pytest.mark.parametrize(
    ("section", "parts"), [("Strategies", BUILTIN), ("Server optimizers", SERVER_OPTIMIZERS)]
)
def test_the_catalogue_is_what_is_built_in(
    section: str, parts: tuple[type[BaseModel], ...]
) -> None:
    found = rows(section)
    assert list(found) == [part.model_fields["kind"].default for part in parts]
    for part, keys in zip(parts, found.values(), strict=True):
        assert sorted(keys) == sorted(set(part.model_fields) - {"kind"})
