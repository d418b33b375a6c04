"""Files that would grow or nest without end are refused with little memory and in a moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedsim.scenario.file_text import LARGEST_FILE

BOMBS = Path(__file__).parent / "bombs.py"
HARMLESS = {"description", "decimals"}
MOST_SECONDS = 10.0
"""Of a processor that others use too; alone the worst takes about a third."""


@pytest.mark.slow
def test_bombs_do_not_go_off(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BOMBS), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 50
    for row in rows:
        assert row["size"] <= LARGEST_FILE
        assert row["code"] == (0 if row["name"] in HARMLESS else 2), row["name"]
        assert row["seconds"] < MOST_SECONDS, row["name"]
        assert len(row["said"]) < 40_000, row["name"]
        told = row["said"].startswith(("Error: " + str(tmp_path / "bomb.yaml:"), str(tmp_path)))
        assert told, row["said"]
