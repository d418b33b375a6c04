"""The cells of a study: one scenario for each method, setting, seed and trial."""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedsim.errors import ScenarioError
from fedsim.records.study import cell_name
from fedsim.scenario import Problem, Scenario, broken
from fedsim.scenario.written import fitted, put
from fedsim.scenario.yaml_tree import Path, dotted

Purpose = Literal["trial", "pilot", "final"]


@dataclass(frozen=True)
class PlannedCell:
    """One run that a study needs.

    Args:
        method: what is compared.
        setting: under which circumstances.
        seed: of its scenario.
        purpose: tuning, pilot, or the comparison itself.
        trial: its number, None for other purposes.
        values: the tuned keys with their values.
        scenario: that is run.
    """

    method: str
    setting: str
    seed: int
    purpose: Purpose
    trial: int | None
    values: Mapping[str, Any]
    scenario: Scenario

    @property
    def name(self) -> str:
        """What it is called within the study."""
        return cell_name(self.purpose, self.method, self.setting, self.trial, self.seed)

    @property
    def run(self) -> str:
        """Name of its run folder, the same in every study that needs this run."""
        return self.scenario.digest[:16]


@dataclass(frozen=True)
class Override:
    """One key of the scenario that the study sets.

    Args:
        key: its path in the scenario.
        value: plain data.
        source: path of the value in the study file.
    """

    key: str
    value: Any
    source: Path


def compose(
    base: Mapping[str, Any], overrides: Sequence[Override], folder: pathlib.Path, whose: str
) -> tuple[Scenario | None, list[Problem]]:
    """Return the scenario with these keys set one after the other, or None and what is wrong.

    Args:
        base: the scenario to begin with, plain data.
        overrides: later ones win.
        folder: that locations in them are relative to.
        whose: the method, which is named for what no single override is to blame for.

    Returns:
        The problems have their paths in the study file.
    """
    data = copy.deepcopy(dict(base))
    sources: dict[Path, Path] = {}
    for override in overrides:
        try:
            sources[put(data, override.key, copy.deepcopy(override.value))] = override.source
        except ScenarioError as error:
            return None, [Problem(override.source, f"there is no {override.key}: {error}")]
    scenario, problems = fitted(Scenario, data, folder)
    if scenario is not None:
        problems = broken(scenario)
    found = [_at_its_source(problem, sources, whose) for problem in problems]
    return (None if found else scenario), found


def for_tuning(scenario: Scenario) -> Scenario:
    """Return the scenario of a trial: without what costs time and says nothing of validation."""
    evaluation = scenario.evaluation.model_copy(
        update={"loss_decomposition": False, "num_resamples": 0}
    )
    return scenario.model_copy(update={"evaluation": evaluation, "baselines": ()})


def _at_its_source(problem: Problem, sources: Mapping[Path, Path], whose: str) -> Problem:
    """Return a problem of a scenario where the study file says what is wrong."""
    path = problem.path
    for key, source in reversed(list(sources.items())):
        if path[: len(key)] == key:
            return Problem((*source, *path[len(key) :]), problem.message)
        if key[: len(path)] == path and path:
            return Problem(source, f"{dotted(path)}: {problem.message}")
    return Problem(("methods", whose), f"{dotted(path) or 'scenario'}: {problem.message}")
