"""What a tracker is, and how a run gets there, at once or while it goes on."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from fedsim.records import RunRecord, read
from fedsim.tracking.scalars import Scalar, scalars

PAUSE_S = 2.0


class Tracker(ABC):
    """A place to which numbers of one run go."""

    @abstractmethod
    def log(self, values: Iterable[Scalar]) -> None:
        """Keep these numbers."""

    @abstractmethod
    def close(self, finished: bool) -> None:
        """Write what is held back; `finished` says whether the run has ended."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the numbers are, for people."""


def track(folder: Path, tracker: Tracker, *, follow: bool) -> RunRecord:
    """Hand the numbers of a run to a tracker, each once.

    Args:
        folder: of the run.
        tracker: to which they go.
        follow: go on until the run is finished.

    Returns:
        The record as it was read last.
    """
    told: set[tuple[int, str]] = set()
    record = read(folder)
    try:
        while True:
            new = [found for found in scalars(record) if found[:2] not in told]
            told |= {found[:2] for found in new}
            tracker.log(new)
            if record.finished or not follow:
                return record
            time.sleep(PAUSE_S)
            record = read(folder)
    finally:
        tracker.close(record.finished)
