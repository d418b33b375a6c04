"""From a YAML file and `--set` changes to a valid scenario, or to errors that say where and how.

A scenario is validated as JSON in pydantic's strict mode: lists may fill tuples, but `"3"` and
`true` are no numbers, and 2.5 is no whole one.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fedsim.errors import ScenarioError
from fedsim.location import FOLDER
from fedsim.scenario import expectation, messages, rules
from fedsim.scenario.scenario import Scenario
from fedsim.scenario.yaml_tree import Path, Tree, dotted, parse


@dataclass(frozen=True)
class Draft:
    """A scenario as somebody wrote it, valid or not.

    Args:
        tree: the file, with the changes in its data.
        changed: the text of each change by the path that it sets.
        folder: that locations in it are relative to.
    """

    tree: Tree
    changed: Mapping[Path, str]
    folder: pathlib.Path

    def scenario(self) -> Scenario:
        """Return the valid scenario.

        Raises:
            ScenarioError: listing every problem with file, line, column, key and expectation.
        """
        scenario = self.as_written()
        if problems := rules.broken(scenario):
            raise ScenarioError(self._located(problems))
        return scenario

    def as_written(self) -> Scenario:
        """Return the scenario without looking at what must hold between its sections or its data.

        Raises:
            ScenarioError: as `scenario`.
        """
        data, expected = self.tree.data, expectation.of(Scenario)
        problems = list(messages.unfit(data, expected))
        try:
            scenario = Scenario.model_validate_json(
                json.dumps(data), strict=True, context={FOLDER: self.folder}
            )
        except ValidationError as error:
            named = {problem.path for problem in problems}
            explained = messages.explain(error, expected, data)
            problems += [p for p in explained if p.path not in named]
        if problems:
            raise ScenarioError(self._located(problems))
        return scenario

    @contextmanager
    def pointing(self) -> Iterator[None]:
        """Let what the sites cannot do be told as any other problem: with file, line and column.

        Raises:
            ScenarioError: for an `UnmetError` in the block.
        """
        try:
            yield
        except messages.UnmetError as error:
            raise ScenarioError(self._located(error.problems)) from error

    def _located(self, problems: Iterable[messages.Problem]) -> str:
        in_order = sorted(problems, key=lambda problem: self.tree.place(problem.path))
        return "\n".join(_render(p, self.tree, self.changed) for p in in_order)


def load_scenario(path: str | pathlib.Path, changes: Iterable[str] = ()) -> Scenario:
    """Read, change and validate a scenario.

    Args:
        path: a YAML file.
        changes: `key.path=value` each, value in YAML, applied before validation.

    Raises:
        ScenarioError: listing every problem with file, line, column, key and what was expected.
    """
    return read_draft(path, changes).scenario()


def read_draft(path: str | pathlib.Path, changes: Iterable[str] = ()) -> Draft:
    """Read and change a scenario without validating it yet.

    Args:
        path: a YAML file.
        changes: as in `load_scenario`.

    Raises:
        ScenarioError: if the file is no YAML with keys, or a change cannot be made.
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
    return Draft(tree, changed, path.parent)


def from_data(data: Mapping[str, Any], origin: str) -> Scenario:
    """Validate plain data; locations are relative to the working folder.

    Raises:
        ScenarioError: as `load_scenario`.
    """
    return _draft(data, origin).scenario()


def recorded(data: Mapping[str, Any], origin: str) -> Scenario:
    """Return a scenario that a run recorded, without needing the data that it names.

    Raises:
        ScenarioError: as `load_scenario`.
    """
    return _draft(data, origin).as_written()


def _draft(data: Mapping[str, Any], origin: str) -> Draft:
    try:
        plain = json.loads(json.dumps(dict(data)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ScenarioError(f"{origin}: expected what JSON can hold: {error}") from error
    return Draft(Tree(plain, {}, origin), {}, pathlib.Path())


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
