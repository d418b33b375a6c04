"""From a YAML file and `--set` changes to a valid scenario, or to errors that say where and how.

A scenario is validated as JSON in pydantic's strict mode: lists may fill tuples, but `"3"` and
`true` are no numbers, and 2.5 is no whole one.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from fedsim.errors import ScenarioError
from fedsim.scenario import expectation, messages, rules
from fedsim.scenario.scenario import Scenario
from fedsim.scenario.yaml_tree import Path, Tree, dotted, parse


def load_scenario(path: str | pathlib.Path, changes: Iterable[str] = ()) -> Scenario:
    """Read, change and validate a scenario.

    Args:
        path: a YAML file.
        changes: `key.path=value` each, value in YAML, applied before validation.

    Raises:
        ScenarioError: listing every problem with file, line, column, key and what was expected.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise ScenarioError(f"{path}: is a folder; expected a scenario file (YAML)") from None
    except UnicodeDecodeError:
        raise ScenarioError(f"{path}: is not text; expected a scenario file (YAML)") from None
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from error
    tree = parse(text, str(path))
    if not isinstance(tree.data, dict):
        given = "an empty file" if tree.data is None else messages.show(tree.data)
        raise ScenarioError(
            f"{path}:1:1: expected keys such as `version:` and `data:`, got {given}"
        )
    changed: dict[Path, str] = {}
    refused: list[str] = []
    for change in changes:
        try:
            changed[_apply(change, tree.data)] = change
        except ScenarioError as error:
            refused.append(str(error))
    if refused:
        raise ScenarioError("\n".join(refused))
    return _validate(tree, changed)


def from_data(data: Mapping[str, Any], origin: str) -> Scenario:
    """Validate plain data, such as a resolved scenario.

    Raises:
        ScenarioError: as `load_scenario`.
    """
    try:
        plain = json.loads(json.dumps(dict(data)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ScenarioError(f"{origin}: expected what JSON can hold: {error}") from error
    return _validate(Tree(plain, {}, origin), {})


def _validate(tree: Tree, changed: Mapping[Path, str]) -> Scenario:
    expected = expectation.of(Scenario)
    problems = list(messages.unfit(tree.data, expected))
    try:
        scenario = Scenario.model_validate_json(json.dumps(tree.data), strict=True)
    except ValidationError as error:
        named = {problem.path for problem in problems}
        explained = messages.explain(error, expected, tree.data)
        problems += [p for p in explained if p.path not in named]
    else:
        problems = problems or rules.broken(scenario)
        if not problems:
            return scenario
    problems.sort(key=lambda problem: tree.place(problem.path))
    raise ScenarioError("\n".join(_render(p, tree, changed) for p in problems))


def _render(problem: messages.Problem, tree: Tree, changed: Mapping[Path, str]) -> str:
    where, path = tree.where(problem.path), problem.path
    for set_path, change in changed.items():
        inside = path[: len(set_path)] == set_path
        made = path not in tree.places and set_path[: len(path)] == path and path
        if inside or made:
            where = f"--set {change}"
    return f"{where}: {dotted(path) or 'scenario'}\n  {problem.message}"


def _apply(change: str, data: dict[str, Any]) -> Path:
    """Set one `key.path=value` in `data` and return the path."""
    name, equals, value = change.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ScenarioError(f"--set {change}: expected key.path=value, such as --set rounds=3")
    here: Any = data
    path: Path = ()
    for depth, key in enumerate(keys):
        index: str | int = key
        if isinstance(here, list):
            if not key.isdecimal() or int(key) >= len(here):
                raise ScenarioError(
                    f"--set {change}: {dotted(path)} has {len(here)} entries, counted from 0; "
                    f"{key!r} is none of them"
                )
            index = int(key)
        elif not isinstance(here, dict):
            raise ScenarioError(
                f"--set {change}: {dotted(path)} is {messages.show(here)}, no section; "
                f"set it as a whole, such as --set '{dotted(path)}={{{key}: ...}}'"
            )
        path = (*path, index)
        if depth == len(keys) - 1:
            try:
                here[index] = parse(value, "value").data
            except ScenarioError as error:
                raise ScenarioError(f"--set {change}: {error}") from error
        elif isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
        here = here[index]
    return path
