"""What a watcher of a study is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Running:
    """A cell that a worker is at.

    Args:
        cell: its name.
        round: that is done.
        num_rounds: of its scenario.
        stage: what is going on, if it is not a round.
    """

    cell: str
    round: int
    num_rounds: int
    stage: str


@dataclass(frozen=True)
class StudyProgress:
    """What a watcher of the study is told whenever something changed.

    Args:
        num_done: cells that finished.
        num_failed: cells that failed.
        num_reused: of those that finished, the ones whose run was there.
        num_cells: of the study.
        running: what the workers are at.
        seconds_left: None as long as nothing is known.
        settled: the cell that just finished or failed.
        error: why it failed.
    """

    num_done: int
    num_failed: int
    num_reused: int
    num_cells: int
    running: tuple[Running, ...]
    seconds_left: float | None
    settled: str | None = None
    error: str | None = None


StudyWatcher = Callable[[StudyProgress], None]
