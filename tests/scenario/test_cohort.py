"""Cohorts: who takes part, how often, and never anyone who does not exist."""

from __future__ import annotations

import numpy as np
import pytest

from fedsim.scenario.cohort import BUILTIN, AllSites, Cohort, FixedSize, Poisson

ALL: tuple[Cohort, ...] = (AllSites(), FixedSize(num_sites=3), Poisson(sampling_rate=0.4))


def test_every_cohort_is_tested() -> None:
    assert {type(cohort) for cohort in ALL} == set(BUILTIN)


@pytest.mark.parametrize("cohort", ALL, ids=lambda c: c.kind)
def test_sites_exist_and_come_once_in_order_the_same_for_the_same_stream(cohort: Cohort) -> None:
    for seed in range(50):
        drawn = cohort.draw(10, np.random.default_rng(seed))
        assert drawn == sorted(set(drawn))
        assert set(drawn) <= set(range(10))
        assert drawn == cohort.draw(10, np.random.default_rng(seed))
        assert all(type(site) is int for site in drawn)


@pytest.mark.parametrize(
    ("cohort", "rate"), list(zip(ALL, (1.0, 0.3, 0.4), strict=True)), ids=lambda x: str(x)[:12]
)
def test_every_site_takes_part_as_often_as_stated(cohort: Cohort, rate: float) -> None:
    rng, num = np.random.default_rng(0), 4000
    counts = np.zeros(10)
    for _ in range(num):
        counts[cohort.draw(10, rng)] += 1
    spread = 4 * np.sqrt(rate * (1 - rate) / num) + 1e-12
    assert np.abs(counts / num - rate).max() <= spread


def test_a_fixed_size_is_fixed_and_a_poisson_size_is_not() -> None:
    rng = np.random.default_rng(0)
    assert {len(FixedSize(num_sites=3).draw(10, rng)) for _ in range(100)} == {3}
    sizes = [len(Poisson(sampling_rate=0.4).draw(10, rng)) for _ in range(4000)]
    assert np.var(sizes) == pytest.approx(10 * 0.4 * 0.6, rel=0.1)
