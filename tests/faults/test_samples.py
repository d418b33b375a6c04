"""Samples of the kills, of the soak, of the run of many sites and of the study of many cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def said_by(*command: str) -> dict[str, Any]:
    """Return the last line of a command of this folder, which must end well."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=HOME,
        env={**os.environ, "PYTHONPATH": str(HOME)},
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_sample_of_the_soak_is_flat() -> None:
    said = said_by("tests.faults.soak", "--rounds", "200")
    assert (said["finished"], said["grown"]["open_files"]) == (True, 0)


def test_the_page_does_not_grow_with_sites() -> None:
    few, many = (said_by("tests.faults.sites", "--num", num) for num in ("200", "2000"))
    assert many["page_kb"] < 1.2 * few["page_kb"]


def test_a_sample_of_the_large_study_is_done_and_its_page_opens() -> None:
    said = said_by("tests.faults.cells", "--settings", "2", "--seeds", "1")
    assert (said["num_cells"], said["failed"]) == (10, 0)


def test_what_is_killed_is_resumed_to_the_same_bits_and_leaves_nothing() -> None:
    said = said_by("tests.faults.kills", "--num", "3", "--seed", "7")
    assert said["runs"] == 3
    assert said["kills"] > 0
