"""From a study file to a valid study, or to errors that say where and how."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

from fedsim.errors import InputError, ScenarioError
from fedsim.records.study import is_study, read_study
from fedsim.scenario import Problem, Scenario, broken, load_scenario
from fedsim.scenario.written import Written, fitted, read_file
from fedsim.study import rules
from fedsim.study.design import Design
from fedsim.study.study_file import Study

KEYS = {"base", "methods", "primary", "question", "seeds", "vary"}
"""Those of a study file that no scenario has."""


def load_study(path: str | pathlib.Path, changes: Iterable[str] = ()) -> Design:
    """Read a study file and validate every scenario in it.

    Args:
        path: a YAML file, or the folder of a study that has begun.
        changes: `key.path=value` each, as `--set` takes them, such as `seeds=5`.

    Raises:
        ScenarioError: listing every problem with file, line, column, key and what was expected.
        InputError: if a file of a study folder is damaged, or was changed since the study began.
    """
    path, changes = pathlib.Path(path), tuple(changes)
    if is_study(path):
        record = read_study(path)
        design = _read(path / "study.yaml", changes)
        if not changes and design.digest != record.digest:
            raise InputError(
                f"{path}: study.yaml does not say what it did when the study began. Put it back "
                "as it was, or run it as a study of its own: copy it out of the folder"
            )
        return design
    return _read(path, changes)


def _read(path: pathlib.Path, changes: Iterable[str]) -> Design:
    return design_of(read_file(path, changes, "`base:` and `methods:`"))


def design_of(written: Written) -> Design:
    """Validate a study file that was read, and every scenario in it.

    Raises:
        ScenarioError: as `load_study`.
    """
    if "data" in written.tree.data and not is_of_study(written):
        raise ScenarioError(
            f"{written.tree.origin}: is a scenario; expected a study. Run it with `fedsim run`, or "
            "name it as the base of a study"
        )
    study = written.read_as(Study)
    folder = pathlib.Path(study.folder or written.folder)
    design = Design(study, _base(study, folder, written), folder)
    if problems := rules.broken(design):
        raise ScenarioError(written.located(dict.fromkeys(problems)))
    return design


def is_study_file(path: str | pathlib.Path) -> bool:
    """Whether a file is a study's rather than a scenario's; whatever is wrong with it."""
    try:
        return is_of_study(read_file(path, (), ""))
    except ScenarioError:
        return False


def is_of_study(written: Written) -> bool:
    """Whether a file that was read is a study's rather than a scenario's."""
    keys = written.tree.data.keys()
    return "data" not in keys and bool(KEYS & keys)


def _base(study: Study, folder: pathlib.Path, written: Written) -> Scenario:
    """Return the scenario that all others start from.

    Raises:
        ScenarioError: if it is not valid by itself.
    """
    if isinstance(study.base, dict):
        base, problems = fitted(Scenario, study.base, folder)
        problems = problems if base is None else broken(base)
        if base is None or problems:
            inside = [Problem(("base", *p.path), p.message) for p in problems]
            raise ScenarioError(written.located(inside))
        return base
    file = folder / study.base
    if not file.is_file():
        raise ScenarioError(
            f"{written.tree.where(('base',))}: base\n  there is no file {file}: name a scenario, "
            "relative to this file"
        )
    if is_study_file(file):
        raise ScenarioError(
            f"{written.tree.where(('base',))}: base\n  {file} is a study: name a scenario"
        )
    return load_scenario(file)
