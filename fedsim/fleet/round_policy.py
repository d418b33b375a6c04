"""When a round ends and whose updates count, decided on the virtual clock.

How long a site takes is known before it trains, so a policy decides the whole round first, and
only what counts is trained. A policy is a pure function from one schedule to the next.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fedsim.fleet.profile import Positive
from fedsim.fleet.turn import Schedule, Task, Turn
from fedsim.plugins import Part

if TYPE_CHECKING:
    from fedsim.fleet.fleet import Fleet


ROUNDING = 1e-9
"""What binary fractions may add to a number of sites: 0.1 times 30 is 3."""


class RoundPolicy(Part, ABC):
    """A rule for the end of a round."""

    kind: str
    needs_devices: ClassVar[bool] = True
    """Whether it makes no sense without a clock."""

    @abstractmethod
    def plan(
        self, round: int, cohort: list[int], schedule: Schedule, fleet: Fleet
    ) -> tuple[Turn, Schedule]:
        """Return what happens in a round, and where the clock stands after it.

        Args:
            round: 1-based.
            cohort: sites that the scenario's cohort drew, ascending.
            schedule: where the clock stands.
            fleet: the sites.
        """

    def discount(self, staleness: int) -> float:
        """Return the factor on an update whose start is so many rounds old."""
        return 1.0


class Synchronous(RoundPolicy):
    """The server waits for every site of the cohort."""

    kind: Literal["synchronous"] = "synchronous"
    needs_devices: ClassVar[bool] = False

    def plan(
        self, round: int, cohort: list[int], schedule: Schedule, fleet: Fleet
    ) -> tuple[Turn, Schedule]:
        """Return a round that ends with the slowest site."""
        begin = schedule.clock_s
        absent = [site for site in cohort if fleet.is_absent(site, round)]
        tasks = [fleet.task(site, round, begin) for site in cohort if site not in absent]
        end = _last(tasks, begin)
        return Turn(round, begin, end, tuple(tasks), (), tuple(absent)), Schedule(end)


class Deadline(RoundPolicy):
    """The server waits for so many virtual seconds at most.

    Args:
        seconds: from the start of a round.
        late: what becomes of a site that needs longer: its update is dropped, or it stops training
            in time and sends what its finished steps gave.
    """

    kind: Literal["deadline"] = "deadline"
    seconds: Positive
    late: Literal["drop", "finished_steps"] = "drop"

    def plan(
        self, round: int, cohort: list[int], schedule: Schedule, fleet: Fleet
    ) -> tuple[Turn, Schedule]:
        """Return a round that ends with its slowest site or at the deadline."""
        waiting, _ = Synchronous().plan(round, cohort, schedule, fleet)
        begin, deadline = waiting.begin_s, waiting.begin_s + self.seconds
        if waiting.end_s <= deadline:
            return waiting, Schedule(waiting.end_s)
        counted, late = [], []
        for task in waiting.counted:
            shorter = self._in_time(task, round, begin, fleet)
            if shorter is None:
                late.append(task.until(deadline))
            else:
                counted.append(shorter)
        turn = Turn(round, begin, deadline, tuple(counted), tuple(late), waiting.absent)
        return turn, Schedule(deadline)

    def _in_time(self, task: Task, round: int, begin: float, fleet: Fleet) -> Task | None:
        """Return the task, or what of it can be done in time; None if its update is dropped."""
        if task.uploaded_s <= begin + self.seconds:
            return task
        trip = fleet.trip(task.site, round)
        num_steps = trip.num_steps_within(self.seconds)
        if self.late == "drop" or num_steps == 0:
            return None
        return Task.begin(task.site, task.version, begin, trip.cut(num_steps), num_steps)


class OverSelect(RoundPolicy):
    """More sites start than the cohort has; as many as it has count, the first ones to be ready.

    Of sites that are ready at the same time those of the cohort come first. The others stop when
    the round ends.

    Source: Bonawitz et al., Towards Federated Learning at Scale, MLSys 2019.

    Args:
        extra: sites that start beside the cohort, as a share of its size, rounded up.
    """

    kind: Literal["over_select"] = "over_select"
    extra: float = Field(default=0.3, gt=0, le=10)

    def plan(
        self, round: int, cohort: list[int], schedule: Schedule, fleet: Fleet
    ) -> tuple[Turn, Schedule]:
        """Return a round that ends when enough sites are ready."""
        begin, num_extra = schedule.clock_s, math.ceil(self.extra * len(cohort) - ROUNDING)
        chosen = set(cohort)
        others = (site for site in fleet.order(round, cohort) if site not in chosen)
        asked = [*cohort, *islice(others, num_extra)]
        absent = [site for site in asked if fleet.is_absent(site, round)]
        tasks = [fleet.task(site, round, begin) for site in asked if site not in absent]
        ready = sorted(tasks, key=lambda task: task.uploaded_s)
        counted, late = ready[: len(cohort)], ready[len(cohort) :]
        end = _last(counted, begin)
        turn = Turn(
            round,
            begin,
            end,
            _by_site(counted),
            _by_site(task.until(end) for task in late),
            tuple(sorted(absent)),
        )
        return turn, Schedule(end)


class BufferedAsync(RoundPolicy):
    """The server never waits for a whole cohort (FedBuff).

    As many sites as the cohort has are at work at any time. Each starts from the newest global
    model; when one is ready, another takes its place. Every `buffer_size` updates the server makes
    the next global model of them, each times (1 + staleness)^(-staleness_exponent), its staleness
    being how many models have been made since it started.

    Updates that arrive at the same time are taken in site order, before anyone starts anew. A site
    whose update waits in the buffer starts again after the server has used it, so that no site
    counts twice in a round. If nobody is left who could deliver, the server goes on with less.

    Source: Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation, AISTATS 2022,
    algorithm 1. Differences from the paper: a strategy may weight by examples (the paper does not:
    `strategy: {kind: weighted_mean, weights: uniform}`); the learning rate of a site is that of
    the round that it started in.

    Args:
        buffer_size: updates that the server waits for.
        staleness_exponent: 0 counts old updates in full; the paper has 0.5.
    """

    kind: Literal["buffered_async"] = "buffered_async"
    buffer_size: int = Field(gt=0)
    staleness_exponent: float = Field(default=0.5, ge=0, le=10)

    reference: ClassVar[str] = """@inproceedings{nguyen2022federated,
  title = {Federated Learning with Buffered Asynchronous Aggregation},
  author = {Nguyen, John and Malik, Kshitiz and Zhan, Hongyuan and Yousefpour, Ashkan and
            Rabbat, Michael and Malek, Mani and Huba, Dzmitry},
  booktitle = {Artificial Intelligence and Statistics (AISTATS)},
  year = {2022},
}"""

    def discount(self, staleness: int) -> float:
        """Return (1 + staleness)^(-staleness_exponent)."""
        return float((1 + staleness) ** -self.staleness_exponent)

    def plan(
        self, round: int, cohort: list[int], schedule: Schedule, fleet: Fleet
    ) -> tuple[Turn, Schedule]:
        """Return a round that ends when the buffer is full."""
        now, at_work = schedule.clock_s, list(schedule.in_flight)
        counted: list[Task] = []
        absent: list[int] = []
        busy = {task.site for task in at_work}
        waiting = (site for site in fleet.order(round, cohort) if site not in busy)
        while len(counted) < self.buffer_size:
            if not any(task.uploaded_s <= now for task in at_work):
                while len(at_work) < len(cohort) and (site := next(waiting, None)) is not None:
                    if fleet.is_absent(site, round):
                        absent.append(site)
                    else:
                        at_work.append(fleet.task(site, round, now))
            if not at_work:
                break
            first = min(at_work, key=lambda task: (task.uploaded_s, task.site))
            at_work.remove(first)
            counted.append(first)
            now = max(now, first.uploaded_s)
        turn = Turn(round, schedule.clock_s, now, _by_site(counted), (), tuple(sorted(absent)))
        return turn, Schedule(now, tuple(at_work))


BUILTIN = (Synchronous, Deadline, OverSelect, BufferedAsync)


def _last(tasks: Iterable[Task], begin_s: float) -> float:
    return max((task.uploaded_s for task in tasks), default=begin_s)


def _by_site(tasks: Iterable[Task]) -> tuple[Task, ...]:
    return tuple(sorted(tasks, key=lambda task: task.site))
