"""A study as its page needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedsim.bag_advice import Assumed
from fedsim.records import RunRecord
from fedsim.records.examples import examples
from fedsim.records.study import StudyRecord
from fedsim.report.document.parts import Block, Table
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

    def by_setting(
        self, make: Callable[[Mapping[str, Any], str], Table | None]
    ) -> dict[str, Block]:
        """Return a table for each setting that has one."""
        made = {setting: make(self.comparison, setting) for setting in self.settings}
        return {titled(setting): table for setting, table in made.items() if table is not None}

    def rows(self, part: str, setting: str) -> list[Mapping[str, Any]]:
        """Return the rows of a part of the comparison that belong to a setting."""
        return tables.of_setting(self.comparison, part, setting)
