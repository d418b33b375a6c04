"""The site of the documentation: built without a warning or a network, and complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import typer

from clients.metrics import METRICS
from fedsim.cli import app
from fedsim.plugins import kind_of
from fedsim.scenario import Scenario
from fedsim.scenario.families import FAMILIES
from fedsim.study.study_file import Study

HOME = Path(__file__).resolve().parent.parent
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def reference() -> Mapping[str, str]:
    """Return the pages of the reference by name."""
    spec = spec_from_file_location("reference", HOME / "docs" / "site" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {Path(place).stem: text for place, text in module.pages().items()}


def test_every_key_of_scenarios_and_studies_is_there(reference: Mapping[str, str]) -> None:
    for contract, page in ((Scenario, "scenario"), (Study, "study")):
        for key in contract.model_fields:
            assert f"| `{key}` |" in reference[page]


def test_every_kind_is_there_with_its_keys(reference: Mapping[str, str]) -> None:
    for parts in FAMILIES.values():
        for part in parts:
            section = reference["parts"].split(f"### `{kind_of(part)}`\n")
            assert len(section) >= 2, kind_of(part)
            keys = set(part.model_fields) - {"kind"}
            rest = "".join(text.split("\n##")[0] for text in section[1:])
            assert all(f"| `{key}` |" in rest for key in keys), kind_of(part)
    assert all(f"| `{name}` |" in reference["parts"] for name in METRICS)


def test_every_command_is_there(reference: Mapping[str, str]) -> None:
    root = typer.main.get_command(app)
    names = [name for name in root.commands if name != "data"]  # type: ignore[attr-defined]
    assert len(names) > 10
    for name in [*names, "data preview"]:
        assert f"## `fedsim {name}`" in reference["commands"]
    assert "`--leave-one-site-out`" in reference["commands"]


def test_pages_are_in_the_navigation() -> None:
    written = {file.name for file in (HOME / "docs").glob("*.md")}
    named = set(re.findall(r"(\w+\.md)$", (HOME / "mkdocs.yml").read_text(), re.MULTILINE))
    assert written | {"index.md"} == named


@pytest.mark.slow
def test_it_builds_without_a_warning_or_a_network(tmp_path: Path) -> None:
    if find_spec("mkdocstrings") is None or find_spec("material") is None:
        pytest.skip("needs the extra `docs`")
    environment = {
        **os.environ,
        "PYTHONPATH": str(HOME),
        "NO_MKDOCS_2_WARNING": "1",  # of what becomes of MkDocs, for people
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE),
    }
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=HOME,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("index.html"))
    assert len(pages) > 40
    loaded = re.compile(
        r'(?:<(?:script|img|iframe)[^>]* src|rel="stylesheet" href)="(?:https?:)?//'
    )
    for page in pages:
        assert not loaded.search(page.read_text(encoding="utf-8")), page
