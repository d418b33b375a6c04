"""The scenario itself: it repeats from its resolved form, and its digest tells scenarios apart."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedsim.errors import ScenarioError
from fedsim.plugins import kind_of
from fedsim.scenario import Scenario, from_data, load_scenario
from fedsim.scenario.families import FAMILIES
from fedsim.study.load import is_study_file

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))
SCENARIOS = [file for file in SCENARIOS if file.stem != "own_images"]  # needs pictures
SCENARIOS = [file for file in SCENARIOS if not is_study_file(file)]
FULL_PATH = Path(__file__).parent / "full.yaml"
FULL = load_scenario(FULL_PATH)
"""A scenario that sets most keys."""


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_shipped_scenario_is_valid_and_repeats(path: Path) -> None:
    scenario = load_scenario(path)
    again = from_data(json.loads(json.dumps(scenario.resolved())), "again")
    assert again == scenario
    assert again.digest == scenario.digest


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_shipped_scenario_is_named_after_its_file(path: Path) -> None:
    assert load_scenario(path).name == path.stem


def test_the_resolved_scenario_writes_out_every_default() -> None:
    smallest = from_data(
        {
            "version": 1,
            "name": "smallest",
            "rounds": 1,
            "data": {
                "source": {"kind": "synthetic", "anatomy": "chest"},
                "task": "binary",
            },
            "population": {"num_sites": 2},
            "client": {"epochs": 1, "batch_size": 8},
        },
        "smallest",
    )
    resolved = smallest.resolved()
    assert resolved["strategy"] == {"kind": "weighted_mean", "weights": "examples"}
    assert resolved["client"]["optimizer"]["learning_rate"] == 0.05
    assert resolved["population"]["held_out"] == {"validation": 0.15, "test": 0.2}
    assert from_data(resolved, "again") == smallest


def test_a_scenario_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FULL.rounds = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        FULL.client.batch_size = 3  # type: ignore[misc]


@pytest.mark.parametrize("change", [{"name": "other"}, {"description": "other"}])
def test_what_a_scenario_is_called_is_not_in_its_digest(change: dict[str, str]) -> None:
    assert from_data(FULL.resolved() | change, "other").digest == FULL.digest


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value that is no list or section."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from leaves(value, (*path, key))
    else:
        yield path


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the data with another value at this path."""
    data = copy.deepcopy(data)
    here = data
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return data


def alternatives(value: Any) -> list[Any]:
    """Return values of the same type, some of which may be valid."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, 2 * value]
    if isinstance(value, float):
        return [0.9 * value or 0.01]
    return [
        "renamed",
        "multiclass",
        "moderate",
        "uniform",
        "examples",
        "f1",
        "drop",
        "t4",
        "fp16",
    ]


CHANGEABLE = [
    path
    for path in leaves(FULL.resolved())
    if path[-1]
    not in ("version", "name", "description", "kind", "anatomy", "steps", "share", "sites", "batch")
    and path[-1] not in ("target", "target_range")  # of a regression alone
    and path[-1] != "debias"  # of noise on updates alone
    and "metrics" not in path
    and path != ("privacy",)
]
"""Values that can be changed alone. For privacy see `test_privacy_rules`: much here it refuses."""


@pytest.mark.parametrize("path", CHANGEABLE, ids=lambda path: ".".join(map(str, path)))
def test_every_value_is_in_the_digest(path: tuple[Any, ...]) -> None:
    before = FULL.resolved()
    for key in path:
        before = before[key]
    digests = set()
    for after in (value for value in alternatives(before) if value != before):
        with suppress(ScenarioError):
            digests.add(from_data(replaced(FULL.resolved(), path, after), "changed").digest)
    assert digests, "no alternative is valid"
    assert FULL.digest not in digests


@pytest.mark.parametrize(
    "changes",
    [
        ["seed=2"],
        ["rounds=16"],
        ["data.label_map.1=1"],
        ["population.appearance=null"],
        ["population.appearance.severity=0.3"],
        ["model.widths=[8, 16, 32]"],
        ["client.optimizer.momentum=0.8"],
        ["strategy={kind: weighted_mean}"],
        ["evaluation.every=2"],
    ],
    ids=str,
)
def test_a_change_changes_the_digest(changes: list[str]) -> None:
    assert load_scenario(FULL_PATH, changes).digest != FULL.digest


def test_what_a_device_does_with_a_large_batch_is_in_the_digest() -> None:
    plain = "client.objective={kind: cross_entropy}"  # class weights go with whole batches alone
    whole, fit = (load_scenario(FULL_PATH, [plain, f"client.batch={b}"]) for b in ("whole", "fit"))
    assert whole.digest != fit.digest


def test_equal_numbers_and_written_defaults_have_equal_digests() -> None:
    same = load_scenario(FULL_PATH, ["data.source.signal=1", "client.drop_last=false"])
    assert same.digest == FULL.digest


def test_the_order_of_keys_is_not_in_the_digest() -> None:
    backwards = dict(reversed(FULL.resolved().items()))
    assert from_data(backwards, "backwards").digest == FULL.digest


def test_the_schema_covers_every_kind_and_all_its_references_resolve() -> None:
    schema = json.loads(json.dumps(Scenario.model_json_schema()))
    definitions = schema["$defs"]
    assert schema["additionalProperties"] is False
    references = [v for p, v in walk(schema) if p and p[-1] == "$ref"]
    assert references
    assert {r.removeprefix("#/$defs/") for r in references} <= set(definitions)
    for family, parts in FAMILIES.items():
        for part in parts:
            kinds = [
                d["properties"]["kind"]["const"]
                for d in definitions.values()
                if d.get("properties", {}).get("kind", {}).get("const") == kind_of(part)
            ]
            assert kinds, f"{family}: {kind_of(part)}"


def walk(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every path and value of plain data."""
    yield path, data
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from walk(value, (*path, key))


PATHS = [path for path, _ in walk(FULL.resolved()) if path]
WORDS = [str(path[-1]) for path in PATHS] + [kind_of(p) for ps in FAMILIES.values() for p in ps]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PATHS), values), min_size=1, max_size=4))
def test_no_change_of_plain_data_breaks_anything_but_the_scenario(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    data = FULL.resolved()
    for path, value in changes:
        try:
            data = replaced(data, path, value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    with suppress(ScenarioError):
        scenario = from_data(data, "fuzzed")
        assert from_data(scenario.resolved(), "again") == scenario
