"""The corpus: every case is refused with its place, its key and a way out, and does nothing.

A new case is a line in `texts.yaml` (whole files), `values.yaml` (one value of a scenario) or
`study_values.yaml` (one value of a study).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Refused = Callable[..., str]
HERE = Path(__file__).parent


def cases(name: str) -> list[dict[str, str]]:
    """Return the cases of a file, every scalar as text."""
    text = (HERE / name).read_text(encoding="utf-8")
    return yaml.load(text, yaml.BaseLoader)  # type: ignore[no-any-return]


def changed(text: str, parts: list[str], value: str) -> str:
    """Return a text with one key replaced, added or taken away.

    Args:
        text: YAML with each key on a line of its own, two spaces a level.
        parts: the keys of its path.
        value: YAML text; `absent` takes the key away.
    """
    lines = text.splitlines()
    at, parent = line_of(lines, parts), line_of(lines, parts[:-1])
    indent = "  " * (len(parts) - 1)
    if at is None:
        assert value != "absent"
        lines.insert(0 if parent is None else parent + 1, f"{indent}{parts[-1]}: {value}")
        return "\n".join(lines) + "\n"
    end = at + 1
    while end < len(lines) and lines[end].startswith(f"{indent} "):
        end += 1
    lines[at:end] = [] if value == "absent" else [f"{indent}{parts[-1]}: {value}"]
    return "\n".join(lines) + "\n"


def line_of(lines: list[str], parts: list[str]) -> int | None:
    start, end, found = 0, len(lines), None
    for depth, part in enumerate(parts):
        heading = f"{'  ' * depth}{part}:"
        inside = (n for n in range(start, end) if f"{lines[n]} ".startswith(f"{heading} "))
        found = next(inside, None)
        if found is None:
            return None
        start = found + 1
        deeper = "  " * (depth + 1)
        end = next((n for n in range(start, end) if not lines[n].startswith(deeper)), end)
    return found


TEXTS = [case for case in cases("texts.yaml") if case["says"] != "valid"]
ODD_TEXTS = [case["text"] for case in cases("texts.yaml") if case["says"] == "valid"]
VALUES, STUDY_VALUES = cases("values.yaml"), cases("study_values.yaml")


def named(case: dict[str, str]) -> str:
    return f"{case['key']}={case['value'][:40]}"


COMMANDS: list[list[str]] = [["run", "--out", "runs"], ["plan"], ["data", "preview"], ["cite"]]
STUDY_COMMANDS: list[list[str]] = [["study"], ["study", "--dry-run"], ["cite"]]


def problems(said: str) -> list[str]:
    """Return the problems of a message, each on one line: place, key, a tab, what is told."""
    return said.replace("\n  ", "\t").splitlines()


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Where the scenario of a case is written."""
    return tmp_path / "scenario.yaml"


@pytest.fixture
def study(tmp_path: Path, base: str) -> Path:
    """Where the study of a case is written, its base beside it."""
    (tmp_path / "base.yaml").write_text(base, encoding="utf-8")
    return tmp_path / "study.yaml"


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: repr(case["text"][:40]))
def test_a_text_that_says_nothing_sound_is_refused(
    refused: Refused, scenario: Path, case: dict[str, str]
) -> None:
    scenario.write_bytes(case["text"].encode())
    said = refused("validate", scenario)
    place = f"{scenario}:{case['where']}"
    assert any(p.startswith(place) and case["says"] in p for p in problems(said)), said


@pytest.mark.parametrize("text", ODD_TEXTS, ids=repr)
def test_a_text_that_looks_odd_is_taken(ask: Any, scenario: Path, valid: str, text: str) -> None:
    scenario.write_text(text + valid, encoding="utf-8")
    assert ask("validate", scenario).code == 0


@pytest.mark.parametrize("case", VALUES, ids=named)
def test_a_value_that_cannot_be_is_refused_where_it_stands(
    refused: Refused, scenario: Path, valid: str, case: dict[str, str]
) -> None:
    text = changed(valid, case["key"].split("."), case["value"])
    scenario.write_text(text, encoding="utf-8")
    told_where_it_stands(refused("validate", scenario), scenario, case, ".")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("case", VALUES[::12], ids=named)
def test_every_command_says_the_same(
    refused: Refused, scenario: Path, valid: str, case: dict[str, str], command: list[str]
) -> None:
    text = changed(valid, case["key"].split("."), case["value"])
    scenario.write_text(text, encoding="utf-8")
    assert refused(*command, scenario) == refused("validate", scenario)


@pytest.mark.parametrize("case", STUDY_VALUES, ids=named)
def test_a_value_of_a_study_that_cannot_be_is_refused_where_it_stands(
    refused: Refused, study: Path, valid_study: str, case: dict[str, str]
) -> None:
    text = changed(valid_study, case["key"].split("/"), case["value"])
    study.write_text(text, encoding="utf-8")
    told_where_it_stands(refused("validate", study), study, case, "/")


@pytest.mark.parametrize("command", STUDY_COMMANDS, ids=" ".join)
@pytest.mark.parametrize("case", STUDY_VALUES[::12], ids=named)
def test_every_command_says_the_same_of_a_study(
    refused: Refused, study: Path, valid_study: str, case: dict[str, str], command: list[str]
) -> None:
    text = changed(valid_study, case["key"].split("/"), case["value"])
    study.write_text(text, encoding="utf-8")
    assert refused(*command, study) == refused("validate", study)


def test_scenario_and_study_are_valid_before_they_are_changed(
    ask: Any, scenario: Path, study: Path, valid: str, valid_study: str
) -> None:
    scenario.write_text(valid, encoding="utf-8")
    study.write_text(valid_study, encoding="utf-8")
    assert ask("validate", scenario).code == ask("validate", study).code == 0


def told_where_it_stands(said: str, path: Path, case: dict[str, str], parting: str) -> None:
    """Check that a problem is told on the line of its key, or of the nearest one above it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    key_path, at = (case.get(name, case["key"]).split(parting) for name in ("key", "at"))
    above = [at[:num] for num in range(len(at) - 1, 0, -1)]
    found = (line_of(lines, path) for path in (at, key_path, *above))
    line = next((number + 1 for number in found if number is not None), 1)
    start, key = f"{path}:{line}:", f": {'.'.join(at)}\t"
    assert any(p.startswith(start) and key in p and case["says"] in p for p in problems(said)), said
