"""From a YAML file and `--set` changes to a valid scenario, or to errors that say where and how."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fedsim.errors import ScenarioError
from fedsim.scenario import messages, rules
from fedsim.scenario.scenario import Scenario
from fedsim.scenario.written import Written, read_file
from fedsim.scenario.yaml_tree import Tree


class Draft(Written):
    """A scenario as somebody wrote it, valid or not."""

    def scenario(self) -> Scenario:
        """Return the valid scenario.

        Raises:
            ScenarioError: listing every problem with file, line, column, key and expectation.
        """
        scenario = self.as_written()
        if problems := rules.broken(scenario):
            raise ScenarioError(self.located(problems))
        return scenario

    def as_written(self) -> Scenario:
        """Return the scenario without looking at what must hold between its sections or its data.

        Raises:
            ScenarioError: as `scenario`.
        """
        return self.read_as(Scenario)

    @contextmanager
    def pointing(self) -> Iterator[None]:
        """Let what the sites cannot do be told as any other problem: with file, line and column.

        Raises:
            ScenarioError: for an `UnmetError` in the block.
        """
        try:
            yield
        except messages.UnmetError as error:
            raise ScenarioError(self.located(error.problems)) from error


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
    written = read_file(path, changes, "`version:` and `data:`")
    return Draft(written.tree, written.changed, written.folder)


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
