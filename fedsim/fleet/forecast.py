"""What will happen on the virtual clock, found out by running it without training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fedsim.fleet.fleet import Fleet
from fedsim.fleet.round_policy import RoundPolicy
from fedsim.fleet.turn import Schedule


@dataclass(frozen=True)
class Crew:
    """The sites of one device group.

    Args:
        device: its name.
        num_sites: how many.
        precision: of products.
        batch_size: examples per step.
        part_size: examples at a time, if a device does not hold a batch.
        largest_batch: examples of a step that the device holds, an estimate.
        memory_bytes: that a step needs, an estimate.
        device_bytes: that the device has.
        fastest_s: seconds that the fastest site needs for its round 1.
        slowest_s: those of the slowest.
        slowest: its name.
    """

    device: str
    num_sites: int
    precision: str
    batch_size: int
    part_size: int | None
    largest_batch: int
    memory_bytes: float
    device_bytes: float
    fastest_s: float
    slowest_s: float
    slowest: str


@dataclass(frozen=True)
class Forecast:
    """All rounds of a run.

    Args:
        crews: of groups with sites.
        seconds: of all rounds.
        shortest_s: of a round.
        mean_s: of a round.
        longest_s: of a round.
        waits_for: site -> rounds in which it was the last whose update counted, most first.
        busy_rate: share of the time that sites work rather than wait, over all of them.
        num_late: updates that come too late.
        num_absent: times that a site is asked and not there.
        mean_staleness: rounds that an update's start is old.
    """

    crews: list[Crew]
    seconds: float
    shortest_s: float
    mean_s: float
    longest_s: float
    waits_for: Mapping[str, int]
    busy_rate: float
    num_late: int
    num_absent: int
    mean_staleness: float


def forecast(fleet: Fleet, policy: RoundPolicy, cohorts: Iterable[list[int]]) -> Forecast:
    """Return what all rounds will be like.

    Args:
        fleet: the sites, with devices.
        policy: that ends the rounds.
        cohorts: the sites that are drawn in each round, one after the other.
    """
    turns, schedule = [], Schedule()
    for round, cohort in enumerate(cohorts, start=1):
        turn, schedule = policy.plan(round, cohort, schedule, fleet)
        turns.append(turn)
    lengths = [turn.end_s - turn.begin_s for turn in turns]
    counted = [task for turn in turns for task in turn.counted]
    worked = [*counted, *(task for turn in turns for task in turn.late)]
    last = Counter(
        fleet.names[max(turn.counted, key=lambda task: task.uploaded_s).site]
        for turn in turns
        if turn.counted
    )
    busy = sum(task.uploaded_s - task.start_s for task in worked)
    return Forecast(
        crews=[
            crew
            for number in range(len(fleet.groups))
            if (crew := _crew(fleet, number)) is not None
        ],
        seconds=schedule.clock_s,
        shortest_s=min(lengths),
        mean_s=schedule.clock_s / len(turns),
        longest_s=max(lengths),
        waits_for=dict(last.most_common()),
        busy_rate=busy / (schedule.clock_s * len(fleet.names)) if schedule.clock_s else 0.0,
        num_late=sum(len(turn.late) for turn in turns),
        num_absent=sum(len(turn.absent) for turn in turns),
        mean_staleness=sum(turn.staleness(task) for turn in turns for task in turn.counted)
        / max(1, len(counted)),
    )


def _crew(fleet: Fleet, number: int) -> Crew | None:
    """Return the facts of a group, None if it has no sites."""
    group, sites = fleet.groups[number], np.flatnonzero(fleet.group_of == number).tolist()
    if not sites:
        return None
    seconds = {site: fleet.trip(site, 1).seconds for site in sites}
    slowest = max(seconds, key=lambda site: seconds[site])
    plan = fleet.plan_of(sites[0])
    return Crew(
        device=group.name,
        num_sites=len(sites),
        precision=group.precision,
        batch_size=plan.batch_size,
        part_size=plan.part_size,
        largest_batch=fleet.largest_batch(group),
        memory_bytes=fleet.footprint(group).memory(plan.part_size or plan.batch_size),
        device_bytes=group.device.memory_bytes,
        fastest_s=min(seconds.values()),
        slowest_s=seconds[slowest],
        slowest=fleet.names[slowest],
    )
