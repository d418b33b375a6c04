"""Whatever is put into a scenario file, it is a scenario or refused as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsim.errors import ScenarioError
from fedsim.scenario import from_data, load_scenario
from fedsim.study.load import load_study

HERE = Path(__file__).parent
TEXT = (HERE / "scenario.yaml").read_text(encoding="utf-8")
DATA: dict[str, Any] = yaml.safe_load(TEXT)
STUDY = (HERE / "study.yaml").read_text(encoding="utf-8")
BASE = (HERE / "base.yaml").read_text(encoding="utf-8")

WORDS = st.sampled_from(["kind", "name", "sites", "iid", "mlp", "fed_avg", "0", "a", "", "__x__"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, 2**63, 10**30, 1e-300, 1e308, -0.0])
    | st.floats()
    | st.text(max_size=8)
    | WORDS
)
KEYS = WORDS | st.text("abz_.-09", max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(KEYS, inside, max_size=3),
    max_leaves=6,
)
CHARACTERS = st.sampled_from(
    "\t\n\r #:-[]{},&*!|>'\"%@`?~.019aZ\\\x00\x1b\x85\xa0é\u2028\u202e\ufeff😀"
)
many = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every section or list with each of its keys or positions."""
    for key in list(data) if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], dict | list):
            yield from places(data[key])


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """Return the data of the valid scenario, changed at a few places."""
    data = copy.deepcopy(DATA)
    for _ in range(draw(st.integers(1, 3))):
        here, key = draw(st.sampled_from(list(places(data))))
        match draw(st.sampled_from(["replace", "replace", "remove", "add", "swap"])):
            case "replace":
                here[key] = draw(VALUES)
            case "remove":
                del here[key]
            case "add" if isinstance(here, dict):
                here[draw(KEYS)] = draw(VALUES)
            case "add":
                here.append(draw(VALUES))
            case "swap":
                there, other = draw(st.sampled_from(list(places(data))))
                here[key] = copy.deepcopy(there[other])
        if not data:
            break
    return data


def answer(load: Callable[[], Any]) -> tuple[Any, str]:
    """Return what is loaded, or None, and what is told instead."""
    try:
        return load(), ""
    except ScenarioError as error:
        return None, str(error)


@many
@given(data=spoilt())
def test_changed_data_are_refused_at_a_key_that_is_there_or_missing(data: dict[str, Any]) -> None:
    scenario, said = answer(lambda: from_data(data, "data"))
    lines = [line for line in said.splitlines() if not line.startswith(("  ", "..."))]
    assert scenario is not None or lines
    for line in lines:
        origin, _, path = line.partition(": ")
        assert origin == "data"
        assert path == "scenario" or is_there_or_missing(data, path), line


def is_there_or_missing(data: Any, path: str) -> bool:
    """Whether all of a dotted path but its last key is in the data; keys may have dots in them."""
    if not isinstance(data, dict | list):
        return False
    for key in list(data) if isinstance(data, dict) else range(len(data)):
        shown = str(key) or "''"
        if path == shown or (
            path.startswith(f"{shown}.") and is_there_or_missing(data[key], path[len(shown) + 1 :])
        ):
            return True
    return "." not in path


@many
@given(data=spoilt())
def test_what_is_valid_says_the_same_once_it_is_written_down(
    tmp_path: Path, data: dict[str, Any]
) -> None:
    scenario, _ = answer(lambda: from_data(data, "data"))
    if scenario is None:
        return
    assert from_data(scenario.resolved(), "again").digest == scenario.digest
    path = tmp_path / "scenario.yaml"
    path.write_text(
        yaml.safe_dump(scenario.resolved(), sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    assert load_scenario(path) == scenario


@many
@given(content=st.binary(max_size=200) | st.text(CHARACTERS, max_size=60).map(str.encode))
def test_random_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_bytes(content)
    assert answer(lambda: load_scenario(path))[1].startswith(f"{path}:")


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """Return the text with a character put in, taken out or replaced at one or two places."""
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(text)))
        put = draw(CHARACTERS | st.just(""))
        text = text[:at] + put + text[at + draw(st.integers(0, 1)) :]
    return text


@many
@given(text=edited(TEXT))
def test_a_slip_of_the_finger_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_bytes(text.encode())
    _, said = answer(lambda: load_scenario(path))
    for line in said.splitlines():
        told = line.removeprefix(f"{path}:").partition(":")[0]
        assert told.isdecimal() or line.startswith(("  ", "...")), said


@settings(many, max_examples=40)
@given(text=edited(STUDY))
def test_a_slip_of_the_finger_in_a_study_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "base.yaml").write_text(BASE, encoding="utf-8")
    path = tmp_path / "study.yaml"
    path.write_bytes(text.encode())
    design, said = answer(lambda: load_study(path))
    assert design is not None or said.startswith(f"{path}:")
