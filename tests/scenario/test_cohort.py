"""Cohorts: who takes part, how often, and never anyone who does not exist."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from fedsim.scenario.cohort import BUILTIN, AllSites, Cohort, Cyclic, FixedSize, Poisson
from fedsim.seeds import Streams

ALL: tuple[Cohort, ...] = (
    AllSites(),
    FixedSize(num_sites=3),
    Poisson(sampling_rate=0.4),
    Cyclic(num_sites=3),
)
STREAMS = Streams(0)


def test_every_cohort_is_tested() -> None:
    assert {type(cohort) for cohort in ALL} == set(BUILTIN)


@pytest.mark.parametrize("cohort", ALL, ids=lambda c: c.kind)
def test_sites_exist_and_come_once_in_order_the_same_for_the_same_stream(cohort: Cohort) -> None:
    for seed in range(50):
        drawn = cohort.draw(10, 7, Streams(seed))
        assert drawn == sorted(set(drawn))
        assert set(drawn) <= set(range(10))
        assert drawn == cohort.draw(10, 7, Streams(seed))
        assert all(type(site) is int for site in drawn)


@pytest.mark.parametrize(
    ("cohort", "rate"),
    list(zip(ALL, (1.0, 0.3, 0.4, 0.25), strict=True)),
    ids=lambda x: str(x)[:12],
)
def test_every_site_takes_part_as_often_as_stated(cohort: Cohort, rate: float) -> None:
    num = 4000
    counts = np.zeros(10)
    for round in range(1, num + 1):
        counts[cohort.draw(10, round, STREAMS)] += 1
    spread = 4 * np.sqrt(rate * (1 - rate) / num) + 1e-12
    assert np.abs(counts / num - rate).max() <= spread


@pytest.mark.parametrize(
    ("cohort", "num"), [(FixedSize(num_sites=2), 2), (Poisson(sampling_rate=0.5), None)]
)
def test_every_set_of_sites_is_drawn_as_often_as_its_law_says(
    cohort: Cohort, num: int | None
) -> None:
    draws = 6000
    counts = Counter(tuple(cohort.draw(4, round, STREAMS)) for round in range(1, draws + 1))
    sets = [s for k in range(5) for s in combinations(range(4), k) if num in (None, k)]
    assert set(counts) == set(sets)
    assert chisquare([counts[s] for s in sets]).pvalue > 0.001
    skewed = [counts[s] * (1.3 if 0 in s else 1) for s in sets]
    expected = np.full(len(sets), np.mean(skewed))
    assert chisquare(skewed, expected).pvalue < 0.001  # and would notice a wrong one


@pytest.mark.parametrize("cohort", [FixedSize(num_sites=50), Poisson(sampling_rate=5e-8)])
def test_a_cohort_of_a_billion_sites_costs_what_the_cohort_costs(cohort: Cohort) -> None:
    tracemalloc.start()
    try:
        drawn = cohort.draw(10**9, 1, STREAMS)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(set(drawn)) == pytest.approx(50, abs=25)
    assert max(drawn) > 10**8
    assert most < 100_000  # bytes


def test_a_fixed_size_is_fixed_and_a_poisson_size_is_not() -> None:
    rounds, fixed, poisson = range(1, 4001), FixedSize(num_sites=3), Poisson(sampling_rate=0.4)
    assert {len(fixed.draw(10, round, STREAMS)) for round in rounds} == {3}
    sizes = [len(poisson.draw(10, round, STREAMS)) for round in rounds]
    assert np.var(sizes) == pytest.approx(10 * 0.4 * 0.6, rel=0.1)


@pytest.mark.parametrize(("num", "size", "cycle"), [(10, 3, 4), (12, 3, 4), (5, 5, 1), (7, 1, 7)])
def test_sites_take_turns_in_the_same_order_in_every_cycle(num: int, size: int, cycle: int) -> None:
    cohort = Cyclic(num_sites=size)
    drawn = [cohort.draw(num, round, STREAMS) for round in range(1, 3 * cycle + 1)]
    assert cohort.separation(num) == cycle
    assert drawn[:cycle] == drawn[cycle : 2 * cycle] == drawn[2 * cycle :]
    assert sorted(site for sites in drawn[:cycle] for site in sites) == list(range(num))
    sizes = {len(sites) for sites in drawn}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_the_seed_decides_whose_turn_it_is_when() -> None:
    first = Counter(Cyclic(num_sites=1).draw(4, 1, Streams(seed))[0] for seed in range(2000))
    assert chisquare([first[site] for site in range(4)]).pvalue > 0.001
