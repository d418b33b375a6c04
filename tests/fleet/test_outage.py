"""Outages are honoured exactly: nobody is out who should be there, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from scipy.stats import binomtest

from fedsim.fleet.fleet import Fleet
from fedsim.fleet.outage import Outage, is_out
from fedsim.seeds import Streams

NAMES = ("early", "late", "leaver", "flaky")
PLAN = (
    Outage(sites=("late",), from_round=1, to_round=3),
    Outage(sites=("leaver",), from_round=5),
    Outage(sites=("flaky", "early"), from_round=2, to_round=2),
)


def test_a_plan_by_round() -> None:
    there = {
        name: [round for round in range(1, 8) if not is_out(PLAN, name, site, round, Streams(0))]
        for site, name in enumerate(NAMES)
    }
    assert there == {
        "early": [1, 3, 4, 5, 6, 7],
        "late": [4, 5, 6, 7],
        "leaver": [1, 2, 3, 4],
        "flaky": [1, 3, 4, 5, 6, 7],
    }


def test_chance_has_the_stated_probability_in_each_round_and_site() -> None:
    outages = (Outage(from_round=1, to_round=200, probability=0.3),)
    draws = [
        is_out(outages, name, site, round, Streams(5))
        for round in range(1, 301)
        for site, name in enumerate(NAMES)
    ]
    assert not any(draws[800:])
    assert binomtest(sum(draws[:800]), 800, 0.3).pvalue > 0.01
    assert binomtest(sum(draws[:800]), 800, 0.4).pvalue < 0.01
    by_site = [draws[site:800:4] for site in range(4)]
    assert len({tuple(part) for part in by_site}) == 4
    assert is_out(outages, "late", 1, 7, Streams(5)) == draws[6 * 4 + 1]


def test_availability_is_the_probability_to_be_there(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(1, 1, group={"availability": 0.8})
    there = [not fleet.is_absent(site, round) for round in range(1, 401) for site in (0, 1)]
    assert binomtest(sum(there), 800, 0.8).pvalue > 0.01
    assert binomtest(sum(there), 800, 0.7).pvalue < 0.01
    assert not any(make_fleet(1).is_absent(0, round) for round in range(100))


def test_outages_need_no_devices(make_fleet: Callable[..., Fleet]) -> None:
    from dataclasses import replace

    fleet = replace(make_fleet(1, 1, outages=(Outage(sites=("site-1",)),)), groups=())
    assert [fleet.is_absent(site, 9) for site in (0, 1)] == [False, True]


@pytest.mark.parametrize(
    "settings", [{"from_round": 3, "to_round": 2}, {"probability": 0}, {"sites": []}]
)
def test_nonsense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Outage(**settings)
