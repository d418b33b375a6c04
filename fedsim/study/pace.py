"""How long runs take: judged by those of the same kind that are done."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from fedsim.study.cells import PlannedCell


class Pace:
    """Seconds of finished cells, and what they tell of the others.

    Args:
        guess: seconds of a cell before any is done, None if nothing is known.
    """

    def __init__(self, guess: float | None = None) -> None:
        self.guess = guess
        self._seconds: dict[tuple[str, ...], list[float]] = {}

    def note(self, cell: PlannedCell, seconds: float) -> None:
        """Take the time of a finished cell into account."""
        for kind in _kinds(cell):
            self._seconds.setdefault(kind, []).append(seconds)

    def expected(self, cell: PlannedCell) -> float | None:
        """Return the seconds of a cell: the mean of the nearest kind of which some are done."""
        for kind in _kinds(cell):
            if kind in self._seconds:
                return statistics.fmean(self._seconds[kind])
        return self.guess

    def left(
        self,
        waiting: Iterable[PlannedCell],
        running: Iterable[tuple[PlannedCell, float]],
        num_workers: int,
    ) -> float | None:
        """Return the seconds until all is done, None if nothing is known.

        Args:
            waiting: cells that have not begun.
            running: those that have, with the seconds since then.
            num_workers: that work side by side.
        """
        expected = [(self.expected(cell), 0.0) for cell in waiting]
        expected += [(self.expected(cell), elapsed) for cell, elapsed in running]
        left = [max(0.0, whole - gone) for whole, gone in expected if whole is not None]
        if len(left) < len(expected):
            return None
        return max([sum(left) / num_workers, *left])


def _kinds(cell: PlannedCell) -> Iterable[tuple[str, ...]]:
    """Yield what a cell has in common with others, from the nearest to all of them."""
    purpose = "trial" if cell.purpose == "trial" else "whole"
    yield purpose, cell.method, cell.setting
    yield purpose, cell.method
    yield (purpose,)
    yield ()
