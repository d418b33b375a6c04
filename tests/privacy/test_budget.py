"""A budget has room for what it has room for, whoever asks and whenever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from dp_accounting import dp_event
from dp_accounting.dp_event import DpEvent
from hypothesis import given
from hypothesis import strategies as st

from fedsim.privacy import accounting
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.budget import Guard, largest
from fedsim.privacy.events import History, history

ROUND = dp_event.SelfComposedDpEvent(
    dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(1.0)), 10
)
DELTA = 1e-5


def coming(event: DpEvent, first: int, last: int) -> Callable[[], dict[int, History]]:
    """Return what a payer would release from one round to another, the same in each."""
    return lambda: dict.fromkeys(range(first, last + 1), history([(event, 1)]))


def spend(guard: Guard, event: DpEvent, num: int, payer: str = "a") -> int:
    """Release in as many rounds as the guard lets a payer, up to so many."""
    spent: Counter[DpEvent] = Counter()
    for round in range(1, num + 1):
        if not guard.affords(payer, round, spent, coming(event, round, num)):
            return round - 1
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
    assert guard.affords("a", done, history([(ROUND, done - 1)]), coming(ROUND, done, 30))
    after = history([(ROUND, done)])
    assert not guard.affords("a", done + 1, after, coming(ROUND, done + 1, 30))


def test_what_was_planned_and_not_released_is_there_for_later() -> None:
    done, guard = spend(Guard(5.0, DELTA), ROUND, 30), Guard(5.0, DELTA)
    for round in range(1, done + 1):
        assert guard.affords("a", round, {}, coming(ROUND, round, 30))
    assert guard.affords("a", done + 1, {}, coming(ROUND, done + 1, 30))


def test_rounds_that_differ_are_paid_for_as_they_are_and_payers_are_apart() -> None:
    guard, loud = Guard(5.0, DELTA), history([(dp_event.NonPrivateDpEvent(), 1)])
    planned = {2: history([(ROUND, 1)]), 4: history([(ROUND, 2)]), 7: loud}
    assert guard.affords("a", 2, {}, lambda: planned)
    assert guard.affords("a", 4, planned[2], lambda: {4: planned[4], 7: loud})
    assert not guard.affords("a", 7, history([(ROUND, 3)]), lambda: {7: loud})
    assert not guard.affords("b", 7, {}, lambda: {7: loud})
    assert guard.affords("b", 8, {}, coming(ROUND, 8, 8))


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
