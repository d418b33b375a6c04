"""From a YAML file and `--set` changes to a valid scenario, or to errors that say where and how."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from fedsim.errors import ScenarioError
from fedsim.scenario import messages, rules
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
        raise ScenarioError(f"{path}:1:1: expected keys such as `version:` and `data:`")
    changed = {key_path: change for change in changes for key_path in [_apply(change, tree.data)]}
    return _validate(tree, changed)


def from_data(data: Mapping[str, Any], origin: str) -> Scenario:
    """Validate plain data, such as a resolved scenario.

    Raises:
        ScenarioError: as `load_scenario`.
    """
    return _validate(Tree(dict(data), {}, origin), {})


def _validate(tree: Tree, changed: Mapping[Path, str]) -> Scenario:
    try:
        scenario = Scenario.model_validate(tree.data)
    except ValidationError as error:
        problems = messages.explain(error, Scenario, tree.data)
    else:
        problems = rules.broken(scenario)
        if not problems:
            return scenario
    raise ScenarioError("\n".join(_render(p, tree, changed) for p in problems))


def _render(problem: messages.Problem, tree: Tree, changed: Mapping[Path, str]) -> str:
    where = tree.where(problem.path)
    for path, change in changed.items():
        if problem.path[: len(path)] == path:
            where = f"--set {change}"
    return f"{where}: {dotted(problem.path) or 'scenario'}\n  {problem.message}"


def _apply(change: str, data: dict[Any, Any]) -> Path:
    """Set one `key.path=value` in `data` and return the path."""
    name, equals, value = change.partition("=")
    if not equals or not name:
        raise ScenarioError(f"--set {change}: expected key.path=value, such as --set rounds=3")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ScenarioError(f"--set {change}: the value is not valid YAML") from None
    keys = name.split(".")
    here: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, list) and key.isdigit() and int(key) < len(here):
            index: str | int = int(key)
        elif isinstance(here, dict):
            index = key
        else:
            raise ScenarioError(
                f"--set {change}: {'.'.join(keys[:depth])} has no entry {key!r} to set"
            )
        if last:
            here[index] = parsed
        elif isinstance(here, dict) and here.get(index) is None:
            here[index] = {}
        here = here[index]
    return tuple(int(k) if k.isdigit() else k for k in keys)
