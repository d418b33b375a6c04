"""A study whose file is valid: what is compared, and every run that this needs."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clients.metrics import METRICS
from fedsim.errors import InputError
from fedsim.scenario import Problem, Scenario
from fedsim.study.cells import Override, PlannedCell, Purpose, compose, for_tuning
from fedsim.study.settings import Setting, combine
from fedsim.study.study_file import Study
from fedsim.study.trials import draw, look_up

FIRST_PILOT_SEED = 1_000_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Design:
    """A study with the scenario that it starts from.

    Args:
        study: the study file.
        base: its base.
        folder: that locations in overrides are relative to.
    """

    study: Study
    base: Scenario
    folder: pathlib.Path

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """All combinations of what is varied."""
        return combine(self.study.vary)

    @property
    def seeds(self) -> list[int]:
        """Those of the comparison."""
        return self.study.all_seeds

    @property
    def tuning_seeds(self) -> list[int]:
        """Those of the trials, empty without tuning."""
        return self.study.tune.seeds if self.study.tune else []

    @cached_property
    def analysis(self) -> dict[str, Any]:
        """How the runs are compared, fixed before the first of them."""
        primary, tuning = self.study.primary, self.study.tune
        return {
            **primary.model_dump(),
            "higher_is_better": METRICS[primary.metric].higher_is_better,
            "tuned_by": (tuning and tuning.metric) or primary.metric,
            "target": self.study.target,
            "confidence": CONFIDENCE,
            "correction": "holm",
        }

    def overrides(
        self, method: str, setting: Setting, values: Mapping[str, Any]
    ) -> Iterator[Override]:
        """Yield what is set in the base, from the general to the particular.

        Where a method sets a whole section of which the study varies a key, the key comes last.
        """
        study, own = self.study, self.study.methods[method]
        for key, value in study.set.items():
            yield Override(key, value, ("set", key))
        yield from sorted(
            [
                *(
                    Override(key, value, ("vary", key, setting.places[key]))
                    for key, value in setting.values.items()
                    if key not in own.without
                ),
                *(
                    Override(key, value, ("methods", method, "set", key))
                    for key, value in own.set.items()
                ),
            ],
            key=lambda override: override.key.count("."),
        )
        for key, value in values.items():
            yield Override(key, value, ("methods", method, "tune", key))

    def compose(
        self, method: str, setting: Setting, values: Mapping[str, Any]
    ) -> tuple[Scenario | None, list[Problem]]:
        """Return the scenario of a method in a setting, or None and what is wrong with it."""
        overrides = list(self.overrides(method, setting, values))
        return compose(self.base.resolved(), overrides, self.folder, method)

    def scenario(self, method: str, setting: Setting, values: Mapping[str, Any]) -> Scenario:
        """Return the scenario of a method in a setting, its seed that of the base."""
        scenario, problems = self.compose(method, setting, values)
        if scenario is None:
            raise InputError(f"{self.study.name}: {problems}")  # a valid study has none
        return scenario

    def trials(self, method: str, setting: Setting) -> list[dict[str, Any]]:
        """Return the values that are tried for a method, those it is set to first.

        Without anything to tune there are none.
        """
        spaces, tuning = self.study.methods[method].tune, self.study.tune
        if not spaces or tuning is None:
            return []
        start = self.scenario(method, setting, {}).resolved()
        drawn = draw(spaces, start, tuning.trials - 1)
        return [{key: look_up(start, key) for key in spaces}, *drawn]

    def trial_cells(self, method: str, setting: Setting) -> list[PlannedCell]:
        """Return the cells that decide the values of a method in a setting."""
        found = []
        for number, values in enumerate(self.trials(method, setting)):
            scenario = for_tuning(self.scenario(method, setting, values if number else {}))
            found += [
                self._cell(method, setting, seed, "trial", number, values, scenario)
                for seed in self.tuning_seeds
            ]
        return found

    def final_cells(self, method: str, setting: Setting, trial: int = 0) -> list[PlannedCell]:
        """Return the cells that are compared.

        Args:
            method: of the cells.
            setting: of the cells.
            trial: whose values they get; 0 for those that the method is set to.
        """
        trials = self.trials(method, setting)
        values = trials[trial] if trials else {}
        scenario = self.scenario(method, setting, values if trial else {})
        return [
            self._cell(method, setting, seed, "final", None, values, scenario)
            for seed in self.seeds
        ]

    def pilot_cells(self, numbers: Iterable[int]) -> list[PlannedCell]:
        """Return the cells of a pilot: every method as it is set, on seeds of their own.

        Args:
            numbers: which of those seeds, from 0.
        """
        seeds = [FIRST_PILOT_SEED + number for number in numbers]
        return [
            self._cell(method, setting, seed, "pilot", None, {}, self.scenario(method, setting, {}))
            for method, setting in self.pairs()
            for seed in seeds
        ]

    def pairs(self) -> Iterator[tuple[str, Setting]]:
        """Yield every method in every setting."""
        for setting in self.settings:
            for method in self.study.methods:
                yield method, setting

    def first_cells(self) -> list[PlannedCell]:
        """Return all cells, the final ones with the values that their methods are set to."""
        return [
            cell
            for method, setting in self.pairs()
            for cell in (*self.trial_cells(method, setting), *self.final_cells(method, setting))
        ]

    def notes(self) -> list[str]:
        """Return which methods have fewer trials than the others, and why."""
        if self.study.tune is None:
            return ["no method is tuned: all run as they are set"]
        found = []
        for name, method in self.study.methods.items():
            fewest = min(len(self.trials(name, setting)) for setting in self.settings)
            if not method.tune:
                found.append(f"{name} is not tuned: it runs as it is set")
            elif fewest < self.study.tune.trials:
                found.append(
                    f"{name} has {fewest} trials instead of {self.study.tune.trials}: "
                    "there are no more values to choose from"
                )
        return found

    def resolved(self) -> dict[str, Any]:
        """Return the study as a study file that stands by itself."""
        written = self.study.model_dump(mode="json")
        return {
            **written,
            "base": self.base.resolved(),
            "seeds": self.seeds,
            "folder": str(self.folder.absolute()),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that may change results or how they are compared."""
        written = self.resolved()
        content = {k: v for k, v in written.items() if k not in ("name", "folder")}
        content |= {"base": self.base.digest, "analysis": self.analysis}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _cell(
        self,
        method: str,
        setting: Setting,
        seed: int,
        purpose: Purpose,
        trial: int | None,
        values: Mapping[str, Any],
        scenario: Scenario,
    ) -> PlannedCell:
        seeded = scenario.model_copy(
            update={"seed": seed, "description": f"{method}; {setting.name}"}
        )
        return PlannedCell(method, setting.name, seed, purpose, trial, dict(values), seeded)
