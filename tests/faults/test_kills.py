"""A sample of `python -m tests.faults.kills`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]


@pytest.mark.slow
def test_what_is_killed_is_resumed_to_the_same_bits_and_leaves_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.kills", "--num", "5", "--seed", "7"],
        capture_output=True,
        text=True,
        cwd=HOME,
        env={**os.environ, "PYTHONPATH": str(HOME)},
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["runs"] == 5
    assert counts["kills"] > 0
