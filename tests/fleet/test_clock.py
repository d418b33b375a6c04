"""The virtual clock against cases computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, norm

from clients.training import Plan
from fedsim.fleet.catalogue import CATALOGUE
from fedsim.fleet.clock import Trip, jitter, step_s, transfer_s, trip
from fedsim.fleet.device import DeviceGroup
from fedsim.fleet.fleet import Fleet, plan_for
from fedsim.fleet.footprint import Footprint
from fedsim.seeds import Streams

MakeGroup = Callable[..., DeviceGroup]


def test_computing_takes_operations_over_the_reached_part_of_the_peak(
    make_group: MakeGroup,
) -> None:
    footprint = Footprint(flops=1e11, parameter_bytes=0, held_bytes=0, example_bytes=0)
    assert step_s(make_group(utilisation=0.5), footprint, 10) == pytest.approx(2.0)
    assert step_s(make_group(utilisation=0.25), footprint, 10) == pytest.approx(4.0)


def test_moving_data_is_a_floor(make_group: MakeGroup) -> None:
    # 2 (1e10 held + 1e10 parameters + 10 examples of 4e9) bytes at 10^12 bytes per second
    footprint = Footprint(flops=1.0, parameter_bytes=10**10, held_bytes=10**10, example_bytes=4e9)
    assert step_s(make_group(), footprint, 10) == pytest.approx(0.12)


def test_lower_precision_has_its_own_peak() -> None:
    footprint = Footprint(flops=1e12, parameter_bytes=0, held_bytes=0, example_bytes=0)
    full, half = (
        step_s(DeviceGroup(profile="t4", share=1, precision=p, utilisation=1), footprint, 1)
        for p in ("fp32", "fp16")
    )
    assert (full, half) == (pytest.approx(1 / 8.1), pytest.approx(1 / 65))
    with pytest.raises(ValueError, match="no peak for bf16"):
        CATALOGUE["t4"].flops_per_s("bf16")


def test_a_transfer_is_latency_and_bits_over_the_link() -> None:
    assert transfer_s(1_000_000, 8, 0.5) == pytest.approx(1.5)


def test_a_trip_by_hand(make_group: MakeGroup) -> None:
    footprint = Footprint(flops=1e11, parameter_bytes=0, held_bytes=0, example_bytes=0)
    sizes = Plan(batch_size=4, epochs=2).batch_sizes(10)
    assert sizes == [4, 4, 2, 4, 4, 2]
    found = trip(make_group(latency_s=0.25), footprint, sizes, 1_000_000, slowness=1.5)
    assert found.download_s == pytest.approx(1.25)
    assert found.step_s == pytest.approx((1.2, 1.2, 0.6, 1.2, 1.2, 0.6))
    assert found.upload_s == pytest.approx(2.25)
    assert found.seconds == pytest.approx(1.25 + 6.0 + 2.25)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(2.9, 0), (3.9, 0), (4.0, 1), (6.9, 2), (7.0, 3), (99.0, 3)]
)
def test_steps_that_are_done_in_time(seconds: float, expected: int) -> None:
    found = Trip(1.0, (1.0, 1.5, 1.5), 2.0)
    assert found.num_steps_within(seconds) == expected
    assert found.cut(expected).seconds <= max(seconds, 3.0)


def test_jitter_is_log_normal_and_belongs_to_round_and_site(make_group: MakeGroup) -> None:
    group, streams = make_group(jitter=0.4), Streams(1)
    draws = [jitter(group, streams, round, site) for round in range(40) for site in range(25)]
    assert kstest(np.log(draws), norm(scale=0.4).cdf).pvalue > 0.01
    assert kstest(np.log(draws), norm(scale=0.6).cdf).pvalue < 0.01
    assert draws[27] == jitter(group, Streams(1), 1, 2)
    assert jitter(make_group(), streams, 1, 2) == 1.0


def test_a_group_changes_the_plan_of_its_sites(make_group: MakeGroup) -> None:
    plan = Plan(batch_size=32, epochs=2, drop_last=True)
    assert plan_for(make_group(), plan) == plan
    assert plan_for(make_group(batch_size=8), plan) == Plan(8, 2, None, True)
    assert plan_for(make_group(steps=5), plan) == Plan(32, None, 5, True)
    assert plan_for(make_group(epochs=1), Plan(8, steps=3)) == Plan(8, 1)


def test_a_device_that_cannot_hold_a_batch_may_take_parts_of_it(
    make_fleet: Callable[..., Fleet],
) -> None:
    # 100 bytes per example and 4000 besides, so 3 fit into 4300 bytes
    small = {"profile": {"fp32_tflops": 1, "memory_gb": 4.3e-6, "memory_gb_per_s": 1000}}
    plan = Plan(batch_size=8, epochs=1)
    assert make_fleet(9, group=small, fit=True, plan=plan).plan_of(0).part_size == 3
    assert make_fleet(9, group=small, plan=plan).plan_of(0).part_size is None
    assert make_fleet(9, fit=True, plan=plan).plan_of(0) == plan


def test_without_devices_the_clock_stands_still(make_fleet: Callable[..., Fleet]) -> None:
    from dataclasses import replace

    fleet = replace(make_fleet(3, 4), groups=())
    assert fleet.trip(0, 1).seconds == 0
    assert fleet.task(1, 2, 5.0).uploaded_s == 5.0


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(4, epochs=1), [4, 4, 2]),
        (Plan(4, epochs=2, drop_last=True), [4, 4, 4, 4]),
        (Plan(4, steps=4), [4, 4, 2, 4]),
        (Plan(16, epochs=1), [10]),
    ],
)
def test_batch_sizes_are_those_that_a_client_trains_on(plan: Plan, expected: list[int]) -> None:
    import torch

    from clients.batch import Batch

    examples = Batch(torch.zeros(10, 1), torch.zeros(10, dtype=torch.int64))
    trained: list[Any] = [len(batch) for batch in plan.batches(examples, torch.Generator())]
    assert plan.batch_sizes(10) == trained == expected
