"""A budget has room for what it has room for, whoever asks and whenever."""

from __future__ import annotations

from collections import Counter

import pytest
from dp_accounting import dp_event
from dp_accounting.dp_event import DpEvent
from hypothesis import given
from hypothesis import strategies as st

from fedsim.privacy import accounting
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.budget import Guard, largest
from fedsim.privacy.events import history

ROUND = dp_event.SelfComposedDpEvent(
    dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(1.0)), 10
)
DELTA = 1e-5


def spend(guard: Guard, event: DpEvent, num: int, site: str = "a") -> int:
    """Release as often as the guard lets a site, up to so many times."""
    spent: Counter[DpEvent] = Counter()
    for done in range(num):
        if not guard.affords(site, spent, event, num - done):
            return done
        guard.charge(site)
        spent.update(history([(event, 1)]))
    return num


def test_it_stops_before_the_release_that_would_overspend() -> None:
    done = spend(Guard(5.0, DELTA), ROUND, 30)
    assert 0 < done < 30
    assert epsilon(history([(ROUND, done)]), DELTA) <= 5.0
    assert epsilon(history([(ROUND, done + 1)]), DELTA) > 5.0


def test_it_lets_a_run_that_fits_to_its_end() -> None:
    assert spend(Guard(epsilon(history([(ROUND, 30)]), DELTA), DELTA), ROUND, 30) == 30


def test_one_that_begins_in_the_middle_decides_the_same() -> None:
    done, guard = spend(Guard(5.0, DELTA), ROUND, 30), Guard(5.0, DELTA)
    before = history([(ROUND, done - 1)])
    assert guard.affords("a", before, ROUND, 30 - done + 1)
    guard.charge("a")
    assert not guard.affords("a", history([(ROUND, done)]), ROUND, 30 - done)


def test_other_noise_is_asked_for_anew_and_sites_are_apart() -> None:
    guard, quiet = Guard(5.0, DELTA), dp_event.GaussianDpEvent(0.1)
    assert guard.affords("a", {}, ROUND, 3)
    assert not guard.affords("a", {}, quiet, 3)
    assert not guard.affords("b", {}, dp_event.NonPrivateDpEvent(), 3)
    assert guard.affords("b", {}, ROUND, 3)


def test_a_hundred_like_sites_over_a_thousand_rounds_cost_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def counted(events: object, delta: float, interval: float) -> float:
        asked.append(interval)
        return epsilon(events, delta, interval)  # type: ignore[arg-type]

    monkeypatch.setattr(accounting, "epsilon", counted)
    guard = Guard(8.0, DELTA)
    accounting._composed.cache_clear()
    accounting._epsilon.cache_clear()
    rare = dp_event.PoissonSampledDpEvent(0.01, dp_event.GaussianDpEvent(2.0))
    for site in range(100):
        assert spend(guard, rare, 1000, f"site {site}") == 1000
    assert len(asked) == 100  # one question a site, not one a round
    assert accounting._epsilon.cache_info().misses == 1


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_largest_number_is_found(threshold: int, high: int) -> None:
    assert largest(lambda num: num <= threshold, 0, high) == min(threshold, high)
