"""`.ci/audit`: what is said of what pip-audit found. The look-up itself needs a network."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "audit"
FLAW = {"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
FLAWED = {"name": "flawed", "version": "1.0", "vulns": [FLAW]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


@pytest.fixture(scope="module")
def audit() -> Any:
    """Return the script as a module."""
    loader = SourceFileLoader("dependency_audit", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SOUND], 0, "1 packages looked up, 0 known flaws"),
        ([SOUND, FLAWED], 1, "flawed 1.0: PYSEC-2026-1, mended in 1.1"),
        ([SOUND, UNKNOWN], 0, "not known there: unknown"),
        ([UNKNOWN, UNKNOWN], 0, "SKIPPED: nothing was looked up"),
    ],
)
def test_what_was_found_and_what_could_not_be_looked_up_is_said(
    audit: Any, packages: list[dict[str, Any]], code: int, said: str
) -> None:
    found = audit.verdict({"dependencies": packages})
    assert found[0] == code
    assert said in found[1]


@pytest.mark.network
def test_the_pinned_versions_have_no_known_flaw() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if "SKIPPED" in done.stdout:
        pytest.skip(done.stdout.strip())
