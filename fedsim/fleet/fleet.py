"""The sites of a run on their devices: who is there in a round, and how long each takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedsim.fleet import clock
from fedsim.fleet.clock import Trip
from fedsim.fleet.outage import is_out
from fedsim.fleet.turn import Task

if TYPE_CHECKING:
    from clients.precision import Precision
    from clients.training import Plan
    from fedsim.fleet.device import DeviceGroup
    from fedsim.fleet.footprint import Footprint
    from fedsim.fleet.outage import Outage
    from fedsim.seeds import Streams

ON_NOTHING = Trip(0.0, (), 0.0)
"""The trip of a site without a device: the clock stands still."""


@dataclass(frozen=True)
class Fleet:
    """All sites that train.

    Args:
        names: of the sites.
        num_examples: function of a site -> its training examples.
        num_bags: function of a site -> the bags that they lie in, None if they do not.
        plan: how much a site does in a round, unless its group says otherwise.
        groups: devices; none if the scenario has none.
        group_of: number of each site's group, (site,); empty without groups.
        footprints: cost of a training step in each precision that a group has.
        fit: whether sites form gradients over parts of a batch that their device cannot hold.
        num_bytes: of the model on the wire.
        outages: when sites are not there.
        streams: of the scenario.
        samples: whether every step has a Poisson sample, whose size is not known before: the clock
            takes the expected one, which all steps have.
    """

    names: Sequence[str]
    num_examples: Callable[[int], int]
    num_bags: Callable[[int], int | None]
    plan: Plan
    groups: tuple[DeviceGroup, ...]
    group_of: NDArray[np.int64]
    footprints: Mapping[Precision, Footprint]
    fit: bool
    num_bytes: int
    outages: tuple[Outage, ...]
    streams: Streams
    samples: bool = False

    def group(self, site: int) -> DeviceGroup | None:
        """Return the group of a site, None without groups."""
        return self.groups[self.group_of[site]] if self.groups else None

    def footprint(self, group: DeviceGroup) -> Footprint:
        """Return what a training step costs in a group's precision."""
        return self.footprints[group.precision]

    def largest_batch(self, group: DeviceGroup) -> int:
        """Return how many examples of a step a group's devices hold (an estimate), 0 if none."""
        return self.footprint(group).largest_batch(group.device.memory_bytes)

    def plan_of(self, site: int) -> Plan:
        """Return what a site does in a round."""
        group = self.group(site)
        if group is None:
            return self.plan
        plan = plan_for(group, self.plan)
        if self.fit and 0 < (largest := self.largest_batch(group)) < plan.batch_size:
            return replace(plan, part_size=largest)
        return plan

    def batch_sizes(self, site: int) -> list[int]:
        """Return the examples in each step of a site's round."""
        sizes = self.plan_of(site).batch_sizes(self.num_examples(site), self.num_bags(site))
        return [max(sizes)] * len(sizes) if self.samples else sizes

    def trip(self, site: int, round: int) -> Trip:
        """Return what a site needs for a round that it starts in."""
        group = self.group(site)
        if group is None:
            return ON_NOTHING
        return clock.trip(
            group,
            self.footprint(group),
            self.batch_sizes(site),
            self.num_bytes,
            clock.jitter(group, self.streams, round, site),
        )

    def task(self, site: int, round: int, start_s: float) -> Task:
        """Return the task of a site that starts from the newest model in a round."""
        return Task.begin(site, round - 1, start_s, self.trip(site, round))

    def is_absent(self, site: int, round: int) -> bool:
        """Return whether a site is not there in a round, by an outage or by its availability."""
        group = self.group(site)
        if group is not None and group.availability < 1:
            draw = self.streams.numpy("availability", round=round, site=site)
            if draw.random() >= group.availability:
                return True
        return is_out(self.outages, self.names[site], site, round, self.streams)

    def order(self, round: int, first: Sequence[int]) -> Iterator[int]:
        """Yield all sites in random order, those of `first` before all others.

        The order comes from the stream "further_sites" of the round.
        """
        rng = self.streams.numpy("further_sites", round=round)
        yield from map(int, rng.permutation(first))
        known = set(first)
        for site in map(int, rng.permutation(len(self.names))):
            if site not in known:
                yield site


def plan_for(group: DeviceGroup, plan: Plan) -> Plan:
    """Return a plan with what a group says put into it."""
    plan = replace(plan, precision=group.precision, batch_size=group.batch_size or plan.batch_size)
    if group.epochs is None and group.steps is None:
        return plan
    return replace(plan, epochs=group.epochs, steps=group.steps)
