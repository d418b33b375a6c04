"""A forecast is what the rounds turn out to be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clients.training import Plan
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.forecast import forecast
from fedsim.fleet.outage import Outage
from fedsim.fleet.round_policy import BufferedAsync, Deadline, Synchronous

MakeFleet = Callable[..., Fleet]


def test_synchronous_rounds_by_hand(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(1, 5, 3, outages=(Outage(sites=("site-1",), from_round=3),))
    found = forecast(fleet, Synchronous(), [[0, 1, 2], [0, 2], [1, 2]])
    # rounds of 8, 6 and 6 s; sites work for 4 + 8 + 6, 4 + 6 and 6 s
    assert found.seconds == 20
    assert (found.shortest_s, found.longest_s) == (6, 8)
    assert found.mean_s == pytest.approx(20 / 3)
    assert found.waits_for == {"site-2": 2, "site-1": 1}
    assert found.busy_rate == pytest.approx(34 / 60)
    assert (found.num_late, found.num_absent, found.mean_staleness) == (0, 1, 0)


def test_late_updates_are_counted(make_fleet: MakeFleet) -> None:
    found = forecast(make_fleet(1, 5), Deadline(seconds=6), [[0, 1]] * 4)
    assert (found.num_late, found.seconds) == (4, 24)


def test_staleness_is_a_mean(make_fleet: MakeFleet) -> None:
    found = forecast(make_fleet(1, 2, 10), BufferedAsync(buffer_size=2), [[0, 1, 2]] * 4)
    assert found.mean_staleness == pytest.approx((2 + 1) / 8)


def test_crews_say_what_their_sites_need(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(2, 9, 4, plan=Plan(batch_size=1, epochs=1))
    (crew,) = forecast(fleet, Synchronous(), [[0]]).crews
    assert (crew.num_sites, crew.fastest_s, crew.slowest_s) == (3, 5, 12)
    assert crew.slowest == "site-1"
    assert crew.memory_bytes == 4000 + 100
    assert crew.largest_batch == (10**9 - 4000) // 100


def test_nobody_at_all(make_fleet: MakeFleet) -> None:
    found = forecast(make_fleet(1, outages=(Outage(),)), Synchronous(), [[0], [0]])
    assert (found.seconds, found.busy_rate, found.waits_for) == (0, 0, {})
