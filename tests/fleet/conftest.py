"""Fleets of which every number can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from clients.training import Plan
from fedsim.fleet.device import DeviceGroup
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.footprint import Footprint
from fedsim.fleet.profile import Profile
from fedsim.seeds import Streams

ROUND_NUMBERS = Profile(fp32_tflops=1, memory_gb=1, memory_gb_per_s=1000)
"""A device of 10^12 operations and 10^12 bytes per second."""
STEP = Footprint(flops=1e11, parameter_bytes=1000, held_bytes=4000, example_bytes=100)
"""At half the peak of `ROUND_NUMBERS` an example takes 0.2 s, and memory next to nothing."""


def group(**settings: Any) -> DeviceGroup:
    """Return devices with links that take 1 s down and 2 s up for 10^6 bytes."""
    defaults = {
        "profile": ROUND_NUMBERS,
        "share": 1.0,
        "utilisation": 0.5,
        "downlink_mbps": 8.0,
        "uplink_mbps": 4.0,
        "latency_s": 0.0,
    }
    return DeviceGroup(**{**defaults, **settings})


@pytest.fixture(scope="session")
def make_group() -> Callable[..., DeviceGroup]:
    return group


@pytest.fixture(scope="session")
def make_fleet() -> Callable[..., Fleet]:
    """Return a function that makes a fleet of sites with given seconds of computing.

    Each takes 1 s to download, its seconds to compute in steps of 1 s, and 2 s to upload: its
    device does one example per second and a batch is one example.
    """

    def make(*seconds: int, seed: int = 0, **settings: Any) -> Fleet:
        groups = (group(utilisation=0.1, **settings.pop("group", {})),)
        return Fleet(
            names=[f"site-{number}" for number in range(len(seconds))],
            num_examples=lambda site: seconds[site],
            num_bags=lambda site: None,
            plan=settings.pop("plan", Plan(batch_size=1, epochs=1)),
            groups=groups,
            group_of=np.zeros(len(seconds), np.int64),
            footprints={"fp32": STEP},
            fit=settings.pop("fit", False),
            num_bytes=10**6,
            outages=settings.pop("outages", ()),
            streams=Streams(seed),
            **settings,
        )

    return make
