"""A YAML file as somebody wrote it, with `--set` changes, and what is wrong with it where.

A contract is validated as JSON in pydantic's strict mode: lists may fill tuples, but `"3"` and
`true` are no numbers, and 2.5 is no whole one.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fedsim.errors import ScenarioError
from fedsim.location import FOLDER
from fedsim.scenario import expectation, messages
from fedsim.scenario.file_text import read_text
from fedsim.scenario.messages import Problem
from fedsim.scenario.yaml_tree import DEEPEST, TOO_DEEP, Path, Tree, dotted, parse

Contract = TypeVar("Contract", bound=BaseModel)
MOST_TOLD, LONGEST_MESSAGE = 30, 1_000
"""Problems, and characters of one, that are printed: of a file with more, nobody reads the rest."""


@dataclass(frozen=True)
class Written:
    """A file with its changes, valid or not.

    Args:
        tree: the file, with the changes in its data.
        changed: the text of each change by the path that it sets.
        folder: that locations in it are relative to.
    """

    tree: Tree
    changed: Mapping[Path, str]
    folder: pathlib.Path

    def read_as(self, contract: type[Contract]) -> Contract:
        """Return what the file says, without looking at what must hold between its sections.

        Raises:
            ScenarioError: listing every problem with file, line, column, key and expectation.
        """
        found, problems = fitted(contract, self.tree.data, self.folder)
        if found is None:
            raise ScenarioError(self.located(problems))
        return found

    def located(self, problems: Iterable[Problem]) -> str:
        """Return the problems in the order of the file, each with its place, the first of many."""
        in_order = sorted(problems, key=lambda problem: self.tree.place(problem.path))
        told = list(map(self._located, in_order[:MOST_TOLD]))
        if (rest := len(in_order) - MOST_TOLD) > 0:
            told.append(f"... and at least {rest:,} more")
        return "\n".join(told)

    def _located(self, problem: Problem) -> str:
        where, path = self.tree.where(problem.path), problem.path
        for set_path, change in self.changed.items():
            inside = path[: len(set_path)] == set_path
            made = path not in self.tree.places and set_path[: len(path)] == path and path
            if inside or made:
                where = f"--set {change}"
        message = problem.message
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]}..."
        return f"{where}: {dotted(path) or 'scenario'}\n  {message}"


def read_file(path: str | pathlib.Path, changes: Iterable[str], keys: str) -> Written:
    """Read and change a file without validating it yet.

    Args:
        path: a YAML file.
        changes: `key.path=value` each, value in YAML.
        keys: two that such a file has, for the message if there are none.

    Raises:
        ScenarioError: if the file is no YAML with keys, or a change cannot be made.
    """
    path = pathlib.Path(path)
    tree = parse(read_text(path), str(path))
    if not isinstance(tree.data, dict):
        given = "an empty file" if tree.data is None else messages.show(tree.data)
        raise ScenarioError(f"{path}:1:1: expected keys such as {keys}, got {given}")
    changed: dict[Path, str] = {}
    refused: list[str] = []
    for change in changes:
        try:
            changed[_apply(change, tree.data)] = change
        except ScenarioError as error:
            refused.append(f"--set {change}: {error}")
    if refused:
        raise ScenarioError("\n".join(refused))
    return Written(tree, changed, path.parent)


def fitted(
    contract: type[Contract], data: Any, folder: pathlib.Path
) -> tuple[Contract | None, list[Problem]]:
    """Return what plain data say, or None and why they do not fit the contract.

    Args:
        contract: that they follow.
        data: plain data whose keys are text.
        folder: that locations in them are relative to.
    """
    expected = expectation.of(contract)
    problems = list(messages.unfit(data, expected))
    try:
        text = json.dumps(data)
    except (RecursionError, ValueError):  # deeper or longer than `unfit` lets pass
        return None, problems
    try:
        found = contract.model_validate_json(text, strict=True, context={FOLDER: folder})
    except ValidationError as error:
        named = {problem.path for problem in problems}
        explained = messages.explain(error, expected, data)
        return None, problems + [p for p in explained if p.path not in named]
    return (None if problems else found), problems


def put(data: dict[str, Any], key: str, value: Any) -> Path:
    """Set one `key.path` in plain data and return the path.

    Raises:
        ScenarioError: if there is no such place; says why, without naming the key.
    """
    keys = key.split(".")
    if len(keys) > DEEPEST:
        raise ScenarioError(TOO_DEEP)
    here: Any = data
    path: Path = ()
    for depth, part in enumerate(keys):
        index: str | int = part
        if isinstance(here, list):
            if part not in map(str, range(len(here))):
                raise ScenarioError(
                    f"{dotted(path)} has {len(here)} entries, counted from 0; "
                    f"{part!r} is none of them"
                )
            index = int(part)
        elif not isinstance(here, dict):
            raise ScenarioError(
                f"{dotted(path)} is {messages.show(here)}, no section; "
                f"set it as a whole, such as --set '{dotted(path)}={{{part}: ...}}'"
            )
        path = (*path, index)
        if depth == len(keys) - 1:
            here[index] = value
        elif isinstance(here, dict) and here.get(part) is None:
            here[part] = {}
        here = here[index]
    return path


def _apply(change: str, data: dict[str, Any]) -> Path:
    """Make one change `key.path=value` in `data` and return the path."""
    name, equals, value = change.partition("=")
    if not equals or not all(name.strip().split(".")):
        raise ScenarioError("expected key.path=value, such as --set rounds=3")
    return put(data, name.strip(), parse(value, "value").data)
