"""A study as its page needs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedsim.bag_advice import Assumed
from fedsim.records import RunRecord
from fedsim.records.examples import examples
from fedsim.records.study import StudyRecord
from fedsim.report.document.parts import Block, Table, views
from fedsim.report.study import learning, tables
from fedsim.report.study.learning import Curve
from fedsim.report.study.looks import titled


@dataclass(frozen=True)
class Study:
    """A study as its page needs it.

    Args:
        record: of the study.
        comparison: of its runs; empty until it is made.
        assumed: of the responses of bags, to say which bag size theory calls best; None not to.
    """

    record: StudyRecord
    comparison: Mapping[str, Any]
    assumed: Assumed | None = None

    @property
    def name(self) -> str:
        """How figures call it."""
        record = self.record
        return f"{record.study['name']} · {len(record.methods)} methods · {len(record.seeds)} seeds"

    @property
    def settings(self) -> Sequence[str]:
        """What the methods are compared in."""
        return self.record.settings

    @cached_property
    def by_method_and_setting(self) -> dict[tuple[str, str], RunRecord]:
        """One run of each."""
        return examples(self.record)

    @property
    def examples(self) -> list[RunRecord]:
        """One run of each method and setting."""
        return list(self.by_method_and_setting.values())

    @property
    def by_setting_alone(self) -> dict[str, RunRecord]:
        """One run of each setting."""
        last_first = reversed(self.by_method_and_setting.items())
        found = {setting: run for (_, setting), run in last_first}
        return {setting: found[setting] for setting in self.settings if setting in found}

    @cached_property
    def curves(self) -> dict[str, dict[str, Curve]]:
        """Learning curves by setting and method."""
        return learning.learning(self.record, self.comparison["primary"]["metric"])

    def tables(self, make: Callable[[Mapping[str, Any], str], Table | None]) -> tuple[Block, ...]:
        """Return a table for each setting that has one, as `by_setting` shows them."""
        made = {setting: make(self.comparison, setting) for setting in self.settings}
        return self.by_setting({s: table for s, table in made.items() if table is not None})

    def by_setting(self, made: Mapping[str, Block]) -> tuple[Block, ...]:
        """Return what there is to see of each setting; what is alike in several of them once.

        Args:
            made: setting -> what is seen.
        """
        alike: list[tuple[Block, list[str]]] = []
        for setting, block in made.items():
            members = next((members for seen, members in alike if seen == block), None)
            if members is None:
                alike.append((block, [setting]))
            else:
                members.append(setting)
        return views("Setting", {self._title(members): block for block, members in alike})

    def _title(self, alike: Sequence[str]) -> str:
        """Return what some settings share, if that tells them from all others, or else each."""
        parts = {setting: self._parts(setting) for setting in self.settings}
        shared = [part for part in parts[alike[0]] if all(part in parts[s] for s in alike)]
        if [s for s in parts if set(shared) <= set(parts[s])] == list(alike):
            return titled(", ".join(shared)) or "All"
        return "; ".join(map(titled, alike))

    def _parts(self, setting: str) -> list[str]:
        """Return what a setting is called, divided by what is varied."""
        keys = "|".join(map(re.escape, self.record.varied[setting]))
        return re.split(f", (?=(?:{keys})=)", setting)

    def rows(self, part: str, setting: str) -> list[Mapping[str, Any]]:
        """Return the rows of a part of the comparison that belong to a setting."""
        return tables.of_setting(self.comparison, part, setting)
