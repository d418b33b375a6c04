"""One round on the virtual clock: who works when, from which model, and whose update counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from fedsim.fleet.clock import Trip


@dataclass(frozen=True)
class Task:
    """What one site does for one update, in virtual seconds since the run began.

    Args:
        site: who.
        version: the round whose global model it starts from, 0 for the initial one.
        start_s: when the server sends the model.
        downloaded_s: when the site has it.
        computed_s: when it has trained.
        uploaded_s: when the server has the update.
        max_steps: optimiser steps after which the site stops early; None for all of its plan.
    """

    site: int
    version: int
    start_s: float
    downloaded_s: float
    computed_s: float
    uploaded_s: float
    max_steps: int | None = None

    @classmethod
    def begin(
        cls, site: int, version: int, start_s: float, trip: Trip, max_steps: int | None = None
    ) -> Task:
        """Return the task of a site that starts at this time and needs this trip."""
        downloaded = start_s + trip.download_s
        computed = downloaded + trip.compute_s
        return cls(
            site, version, start_s, downloaded, computed, computed + trip.upload_s, max_steps
        )

    def until(self, end_s: float) -> Task:
        """Return the task as far as it has come at this time."""
        return replace(
            self,
            downloaded_s=min(self.downloaded_s, end_s),
            computed_s=min(self.computed_s, end_s),
            uploaded_s=min(self.uploaded_s, end_s),
        )


@dataclass(frozen=True)
class Turn:
    """One round.

    Args:
        round: 1-based.
        begin_s: when it begins.
        end_s: when the server has the next global model.
        counted: whose updates the server uses, in site order, each site once.
        late: who worked in vain; in site order, until the round's end.
        absent: sites of the cohort that were not there, in site order.
    """

    round: int
    begin_s: float
    end_s: float
    counted: tuple[Task, ...]
    late: tuple[Task, ...] = ()
    absent: tuple[int, ...] = ()

    def staleness(self, task: Task) -> int:
        """Return how many rounds older than the current global model the task's start is."""
        return self.round - 1 - task.version


@dataclass(frozen=True)
class Schedule:
    """Where the virtual clock stands between two rounds.

    Args:
        clock_s: seconds since the run began.
        in_flight: tasks that have begun and whose updates are still to come.
    """

    clock_s: float = 0.0
    in_flight: tuple[Task, ...] = ()

    def versions(self) -> Iterator[int]:
        """Yield the rounds whose global models are still needed."""
        yield from sorted({task.version for task in self.in_flight})

    def as_data(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {"clock_s": self.clock_s, "in_flight": [asdict(task) for task in self.in_flight]}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Schedule:
        """Return what `as_data` was made of."""
        return cls(data["clock_s"], tuple(Task(**task) for task in data["in_flight"]))
