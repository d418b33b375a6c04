"""Which cell is next: trials before what waits for them, the longest first, until all are done."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedsim.comparison.tuning import validation_value
from fedsim.errors import InUseError
from fedsim.records.study import DIVERGED
from fedsim.study import inventory
from fedsim.study.cells import PlannedCell
from fedsim.study.choice import choose
from fedsim.study.crew import Order, Outcome
from fedsim.study.design import Design
from fedsim.study.folder import StudyFolder, run_folder
from fedsim.study.pace import Pace
from fedsim.study.progress import Running, StudyProgress, StudyWatcher

if TYPE_CHECKING:
    from fedsim.flower.server_app import Progress
    from fedsim.records import RunRecord
    from fedsim.study.crew import Alone, Workers
    from fedsim.study.settings import Setting

NO_TRIAL = "none of its trials finished, so it has no values to run with"


@dataclass
class _Job:
    """One run and the cells that need it."""

    cells: list[PlannedCell]
    begun: float = 0.0
    progress: Progress | None = None
    killed: bool = False

    def shown(self) -> Running:
        cell, progress = self.cells[0], self.progress
        round, stage = (progress.round, progress.stage) if progress else (0, "starts")
        return Running(cell.name, round, cell.scenario.rounds, stage)


@dataclass
class _Entry:
    """A method in a setting whose trials are not all settled."""

    setting: Setting
    trials: list[PlannedCell]
    finals: list[PlannedCell]  # with the values it is set to, until the trials choose
    values: dict[str, float | None] = field(default_factory=dict)


class Race:
    """The cells of a study between being planned and being settled.

    Args:
        design: of the study.
        folder: where settled cells are recorded.
        out: beside which the runs lie.
        sites: say whether the data are what they were.
        num_cells: that will be settled in the end.
        watch: called whenever something changed.
    """

    def __init__(
        self,
        design: Design,
        folder: StudyFolder,
        out: Path,
        sites: inventory.Sites,
        num_cells: int,
        watch: StudyWatcher,
    ) -> None:
        self._design, self._folder, self._out = design, folder, out
        self._sites, self._num_cells, self._watch = sites, num_cells, watch
        self._num_workers = 1
        self._recorded = {cell.cell: cell for cell in folder.read().cells}
        self._pace = Pace()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._waiting: dict[Path, _Job] = {}
        self._running: dict[Path, _Job] = {}
        self._num_done = self._num_failed = self._num_reused = 0

    def enter(self, method: str, setting: Setting) -> None:
        """Let a method run in a setting: its trials, then what is compared."""
        trials = self._design.trial_cells(method, setting)
        finals = self._design.final_cells(method, setting)
        if trials:
            self._entries[method, setting.name] = _Entry(setting, trials, finals)
        self.add(trials or finals)

    def add(self, cells: Iterable[PlannedCell]) -> None:
        """Let cells run, or settle them if that is known already."""
        for cell in cells:
            folder, before = run_folder(cell, self._out), self._recorded.get(cell.name)
            diverged = before is not None and (before.error or "").startswith(DIVERGED)
            if before is not None and diverged and before.folder.name == folder.name:
                self._settle(cell, before.seconds, before.error, None)
            elif record := inventory.finished(folder, cell.scenario):
                self._sites.unchanged(cell, record)
                self._num_reused += 1
                self._settle(cell, inventory.seconds(record), None, record)
            else:
                job = self._running.get(folder) or self._waiting.setdefault(folder, _Job([]))
                job.cells.append(cell)

    def run(self, crew: Alone | Workers) -> None:
        """Hand out runs until none is left."""
        self._num_workers = crew.num_workers
        while self._waiting or self._running:
            for _ in range(min(crew.num_idle, len(self._waiting))):
                self._begin(crew)
            self._end(crew.outcome(self._tell))

    @property
    def num_left(self) -> int:
        """Cells that are not settled."""
        return self._num_cells - self._num_done - self._num_failed

    def _begin(self, crew: Alone | Workers) -> None:
        folder = max(self._waiting, key=lambda folder: self._urgency(self._waiting[folder]))
        job = self._running[folder] = self._waiting.pop(folder)
        job.begun, job.progress = time.monotonic(), None
        crew.give(Order(job.cells[0].scenario.resolved(), folder))
        self._show()

    def _urgency(self, job: _Job) -> tuple[bool, float]:
        """Trials before what waits for them, then the longest."""
        cell = job.cells[0]
        return cell.purpose == "trial", self._pace.expected(cell) or 0.0

    def _tell(self, folder: Path, progress: Progress) -> None:
        self._running[folder].progress = progress
        self._show()

    def _end(self, outcome: Outcome) -> None:
        folder = outcome.order.folder
        job, error = self._running.pop(folder), outcome.error
        if outcome.in_use:  # no failure of the cell: settled, it would be missing in the comparison
            raise InUseError(f"{error}, then give the same command again: what is done stays")
        if outcome.killed and not job.killed:
            job.killed = True
            self._waiting[folder] = job
            return
        if outcome.killed:
            error = f"{error}, twice; it may need more memory than there is"
        record = None if error else inventory.finished(folder, job.cells[0].scenario)
        for cell in job.cells:
            self._settle(cell, outcome.seconds, error, record)

    def _settle(
        self, cell: PlannedCell, seconds: float, error: str | None, record: RunRecord | None
    ) -> None:
        """Record what came of a cell; with the last trial of a method its final cells begin."""
        before = self._recorded.get(cell.name)
        if before is not None and (before.folder.name, before.error) == (cell.run, error):
            seconds = before.seconds
        else:
            self._folder.settle(cell, seconds, error)
        if error is None:
            self._num_done += 1
            self._pace.note(cell, seconds)
        else:
            self._num_failed += 1
        self._show(cell.name, error)
        if cell.purpose == "trial":
            entry, analysis = self._entries[cell.method, cell.setting], self._design.analysis
            entry.values[cell.name] = (
                validation_value(
                    record, analysis["tuned_by"], analysis["model"], pooled=analysis["pooled"]
                )
                if record
                else None
            )
            if len(entry.values) == len(entry.trials):
                self._promote(self._entries.pop((cell.method, cell.setting)))

    def _promote(self, entry: _Entry) -> None:
        """Begin what is compared, with the values that the trials chose."""
        trial = choose(entry.trials, entry.values, self._design.analysis["tuned_by"])
        if trial is None:
            for cell in entry.finals:
                self._settle(cell, 0.0, NO_TRIAL, None)
        else:
            self.add(self._design.final_cells(entry.finals[0].method, entry.setting, trial))

    def _show(self, settled: str | None = None, error: str | None = None) -> None:
        waiting = [job.cells[0] for job in self._waiting.values()]
        waiting += [cell for entry in self._entries.values() for cell in entry.finals]
        running = list(self._running.values())
        self._pace.guess = _judged_by_rounds(running)
        self._watch(
            StudyProgress(
                num_done=self._num_done,
                num_failed=self._num_failed,
                num_reused=self._num_reused,
                num_cells=self._num_cells,
                running=tuple(job.shown() for job in running),
                seconds_left=self._pace.left(
                    waiting,
                    [(job.cells[0], time.monotonic() - job.begun) for job in running],
                    self._num_workers,
                ),
                settled=settled,
                error=error,
            )
        )


def _judged_by_rounds(running: Sequence[_Job]) -> float | None:
    """Return how long the cells that run now take as a whole, None before their first round."""
    whole = [
        (time.monotonic() - job.begun) * job.progress.num_rounds / job.progress.round
        for job in running
        if job.progress is not None and job.progress.round
    ]
    return statistics.fmean(whole) if whole else None
