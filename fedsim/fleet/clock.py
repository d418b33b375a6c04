"""The virtual clock: how long a site takes for a round, in seconds that nobody waits.

A step takes as long as the slower of computing and moving data (the roofline of Williams, Waterman
and Patterson, CACM 2009): operations over the reached part of the peak, or bytes over the memory's
bandwidth. The bytes are an estimate: whatever the device holds is written and read once in a step,
and the parameters twice. Loading images, launching kernels and evaluation take no time here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedsim.fleet.device import DeviceGroup
    from fedsim.fleet.footprint import Footprint
    from fedsim.seeds import Streams


@dataclass(frozen=True)
class Trip:
    """What a site needs for a round, from the server's message to its reply, in virtual seconds.

    Args:
        download_s: of the global model.
        step_s: of each optimiser step.
        upload_s: of the local model.
    """

    download_s: float
    step_s: tuple[float, ...]
    upload_s: float

    @property
    def compute_s(self) -> float:
        """Seconds of all steps."""
        return math.fsum(self.step_s)

    @property
    def seconds(self) -> float:
        """Seconds of everything."""
        return self.download_s + self.compute_s + self.upload_s

    def num_steps_within(self, seconds: float) -> int:
        """Return how many steps can be taken if the reply must be there after so many seconds."""
        left = seconds - self.download_s - self.upload_s
        return int((np.cumsum(self.step_s) <= left).sum())

    def cut(self, num_steps: int) -> Trip:
        """Return the trip with the first steps alone."""
        return Trip(self.download_s, self.step_s[:num_steps], self.upload_s)


def step_s(group: DeviceGroup, footprint: Footprint, batch_size: int) -> float:
    """Return the seconds of one optimiser step without jitter.

    Args:
        group: device and settings.
        footprint: of the network in the group's precision.
        batch_size: examples in the step.
    """
    peak = group.device.flops_per_s(group.precision) * group.utilisation
    computing = footprint.flops * batch_size / peak
    moving = footprint.traffic(batch_size) / group.device.memory_bytes_per_s
    return footprint.num_models * max(computing, moving)


def transfer_s(num_bytes: float, mbps: float, latency_s: float) -> float:
    """Return the seconds in which bytes go over a link."""
    return latency_s + 8 * num_bytes / (1e6 * mbps)


def jitter(group: DeviceGroup, streams: Streams, round: int, site: int) -> float:
    """Return the factor on a site's compute time in a round, exp(sigma z), z standard normal."""
    if group.jitter == 0:
        return 1.0
    return math.exp(
        group.jitter * streams.numpy("jitter", round=round, site=site).standard_normal()
    )


def trip(
    group: DeviceGroup,
    footprint: Footprint,
    batch_sizes: Sequence[int],
    num_bytes: float,
    slowness: float,
) -> Trip:
    """Return what a site needs for a round.

    Args:
        group: device, links and settings.
        footprint: of the network in the group's precision.
        batch_sizes: examples in each step.
        num_bytes: of the model on the wire, the same both ways.
        slowness: factor on compute time.
    """
    known = {size: slowness * step_s(group, footprint, size) for size in set(batch_sizes)}
    return Trip(
        transfer_s(num_bytes, group.downlink_mbps, group.latency_s),
        tuple(known[size] for size in batch_sizes),
        transfer_s(num_bytes, group.uplink_mbps, group.latency_s),
    )
