"""Round policies against timetables written by hand.

A site of n seconds downloads for 1 s, trains for n s in steps of 1 s and uploads for 2 s.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedsim.fleet.fleet import Fleet
from fedsim.fleet.outage import Outage
from fedsim.fleet.round_policy import (
    BUILTIN,
    BufferedAsync,
    Deadline,
    OverSelect,
    RoundPolicy,
    Synchronous,
)
from fedsim.fleet.turn import Schedule, Turn

MakeFleet = Callable[..., Fleet]


def play(policy: RoundPolicy, fleet: Fleet, rounds: int, cohort: list[int]) -> list[Turn]:
    """Return some rounds, each begun from what a checkpoint would hold."""
    turns, schedule = [], Schedule()
    for round in range(1, rounds + 1):
        turn, after = policy.plan(round, cohort, Schedule.from_data(schedule.as_data()), fleet)
        turns.append(turn)
        schedule = after
    return turns


def sites(turn: Turn) -> list[int]:
    return [task.site for task in turn.counted]


def test_synchronous_waits_for_the_slowest(make_fleet: MakeFleet) -> None:
    first, second = play(Synchronous(), make_fleet(1, 5, 3), 2, [0, 1, 2])
    assert (first.begin_s, first.end_s) == (0, 8)
    assert (second.begin_s, second.end_s) == (8, 16)
    task = second.counted[2]
    assert (task.site, task.version, task.start_s) == (2, 1, 8)
    assert (task.downloaded_s, task.computed_s, task.uploaded_s) == (9, 12, 14)


def test_who_is_absent_does_not_train_and_nobody_waits(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(1, 5, 3, outages=(Outage(sites=("site-1",), from_round=2),))
    first, second = play(Synchronous(), fleet, 2, [0, 1, 2])
    assert (sites(first), first.absent, first.end_s) == ([0, 1, 2], (), 8)
    assert (sites(second), second.absent, second.end_s) == ([0, 2], (1,), 14)


def test_a_round_of_nobody_takes_no_time(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(1, 2, outages=(Outage(to_round=1),))
    for policy in (Synchronous(), Deadline(seconds=4), BufferedAsync(buffer_size=2)):
        first, second = play(policy, fleet, 2, [0, 1])
        assert (sites(first), first.absent, first.end_s) == ([], (0, 1), 0)
        assert second.begin_s == 0
        assert sites(second)


def test_a_deadline_drops_the_late(make_fleet: MakeFleet) -> None:
    turn, after = play(Deadline(seconds=6), make_fleet(1, 5, 3), 2, [0, 1, 2])
    assert (sites(turn), turn.end_s, after.begin_s) == ([0, 2], 6, 6)
    (late,) = turn.late
    assert (late.site, late.downloaded_s, late.computed_s, late.uploaded_s) == (1, 1, 6, 6)


def test_a_deadline_that_all_meet_does_not_prolong_the_round(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(1, 5, 3)
    assert play(Deadline(seconds=100), fleet, 3, [0, 1, 2]) == play(
        Synchronous(), fleet, 3, [0, 1, 2]
    )


def test_a_deadline_can_use_finished_steps(make_fleet: MakeFleet) -> None:
    policy = Deadline(seconds=6.5, late="finished_steps")
    (turn,) = play(policy, make_fleet(1, 5, 3), 1, [0, 1, 2])
    assert [(task.site, task.max_steps) for task in turn.counted] == [(0, None), (1, 3), (2, None)]
    assert (turn.counted[1].computed_s, turn.counted[1].uploaded_s) == (4, 6)
    assert turn.end_s == 6.5
    (turn,) = play(Deadline(seconds=3.5, late="finished_steps"), make_fleet(1, 5), 1, [0, 1])
    assert (sites(turn), [task.site for task in turn.late]) == ([], [0, 1])


def test_over_selection_takes_the_first(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(1, 9, 3, 2)
    turns = play(OverSelect(extra=1.0), fleet, 3, [1, 2])
    for turn in turns:
        assert sites(turn) == [0, 3]
        assert [task.site for task in turn.late] == [1, 2]
        assert turn.end_s - turn.begin_s == 5
        assert all(task.uploaded_s == turn.end_s for task in turn.late)


def test_over_selection_draws_the_extra_sites(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(*[1] * 10)
    drawn = {
        task.site for turn in play(OverSelect(extra=0.1), fleet, 60, [0, 1]) for task in turn.late
    }
    assert drawn == set(range(2, 10))
    assert all(len(turn.late) == 1 for turn in play(OverSelect(extra=0.5), fleet, 5, [0, 1]))


def test_over_selection_makes_up_for_the_absent(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(1, 1, 1, outages=(Outage(sites=("site-0",)),))
    (turn,) = play(OverSelect(extra=0.5), fleet, 1, [0, 1])
    assert (sites(turn), turn.late, turn.absent) == ([1, 2], (), (0,))


def test_buffered_async_by_hand(make_fleet: MakeFleet) -> None:
    # Sites need 4, 5 and 13 s in all; two updates make a model.
    fleet = make_fleet(1, 2, 10)
    one, two, three, four = play(BufferedAsync(buffer_size=2), fleet, 4, [0, 1, 2])
    assert (one.begin_s, one.end_s, sites(one)) == (0, 5, [0, 1])
    # 0 and 1 start at 5 from the first model, and are ready at 9 and 10
    assert (two.begin_s, two.end_s, sites(two)) == (5, 10, [0, 1])
    assert [two.staleness(task) for task in two.counted] == [0, 0]
    # 2 is ready at 13 with a start from the beginning, 0 at 14
    assert (three.begin_s, three.end_s, sites(three)) == (10, 14, [0, 2])
    assert [three.staleness(task) for task in three.counted] == [0, 2]
    assert [task.start_s for task in three.counted] == [10, 0]
    # 1 started at 10 from the second model and is ready at 15; 0 starts at 14, is ready at 18
    assert (four.end_s, sites(four)) == (18, [0, 1])
    assert [four.staleness(task) for task in four.counted] == [0, 1]


def test_buffered_async_puts_another_site_in_a_free_place(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(1, 1, 1, 20)
    turns = play(BufferedAsync(buffer_size=3), fleet, 4, [0, 3])
    first = turns[0]
    # 0 is ready at 4; then 1 or 2 starts, ready at 8; then the other, ready at 12
    assert (sites(first), first.end_s) == ([0, 1, 2], 12)
    assert sorted(task.start_s for task in first.counted) == [0, 4, 8]
    assert [first.staleness(task) for task in first.counted] == [0, 0, 0]
    assert all(len(set(sites(turn))) == 3 for turn in turns)
    stale = {task.site: turn.staleness(task) for turn in turns for task in turn.counted}
    assert stale[3] == 1


def test_a_site_starts_from_a_model_once(make_fleet: MakeFleet) -> None:
    turns = play(BufferedAsync(buffer_size=2), make_fleet(1, 2, 3, 5, 9, 30), 60, [0, 1, 2, 4])
    starts = [(task.site, task.version) for turn in turns for task in turn.counted]
    assert len(starts) == len(set(starts)) == 120
    for turn in turns:
        assert all(turn.staleness(task) >= 0 for task in turn.counted)
        assert all(task.uploaded_s <= turn.end_s for task in turn.counted)
    assert {task.site for turn in turns for task in turn.counted} == set(range(6))


def test_discounts() -> None:
    policy = BufferedAsync(buffer_size=1)
    assert [policy.discount(tau) for tau in (0, 1, 3)] == [1, pytest.approx(2**-0.5), 0.5]
    assert BufferedAsync(buffer_size=1, staleness_exponent=0).discount(7) == 1
    assert Deadline(seconds=1).discount(5) == 1


@pytest.mark.parametrize(
    "policy",
    [
        Deadline(seconds=50),
        Deadline(seconds=50, late="finished_steps"),
        OverSelect(extra=0.5),
        BufferedAsync(buffer_size=3),
    ],
)
@pytest.mark.parametrize("cohort", [[0, 1, 2, 3, 4, 5], [1, 3, 4]])
def test_with_equal_devices_all_is_as_synchronous(
    make_fleet: MakeFleet, policy: RoundPolicy, cohort: list[int]
) -> None:
    fleet = make_fleet(*[4] * 6)
    if isinstance(policy, BufferedAsync):
        policy = BufferedAsync(buffer_size=len(cohort))
    found, expected = play(policy, fleet, 5, cohort), play(Synchronous(), fleet, 5, cohort)
    assert [turn.counted for turn in found] == [turn.counted for turn in expected]
    assert [turn.end_s for turn in found] == [turn.end_s for turn in expected]


def test_unequal_devices_are_noticed(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(4, 4, 4, 4, 4, 60)
    expected = play(Synchronous(), fleet, 2, [3, 4, 5])
    for policy in (Deadline(seconds=50), OverSelect(extra=0.5)):
        assert play(policy, fleet, 2, [3, 4, 5])[0].counted != expected[0].counted


def test_every_policy_is_there() -> None:
    assert {part.model_fields["kind"].default for part in BUILTIN} == {
        "synchronous",
        "deadline",
        "over_select",
        "buffered_async",
    }
