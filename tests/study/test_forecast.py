"""What is said before anything runs: which cells, how long, and which runs tell the spread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim.study.cells import PlannedCell
from fedsim.study.design import Design
from fedsim.study.forecast import forecast
from fedsim.study.pace import Pace
from fedsim.study.pilot import spread_record
from fedsim.study.runner import pilot, run

Make = Callable[..., Design]


def test_nothing_is_there_at_first_and_nothing_is_written(make: Make, tmp_path: Path) -> None:
    found = forecast(make(), out=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()
    assert [
        (e.num_trials, e.trials_there, e.num_finals, e.finals_there) for e in found.entries
    ] == [(2, 0, 2, None)] * 4
    assert found.seconds > 0
    assert not found.measured


def test_finished_cells_are_there_and_their_times_count(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    run(make(), out=out, device="cpu")
    done = forecast(make(), out=out, device="cpu")
    assert done.measured
    assert done.seconds == 0
    assert all((e.trials_there, e.finals_there) == (2, 2) for e in done.entries)
    more = forecast(make(seeds=4), out=out, device="cpu")
    assert all((e.num_finals, e.finals_there) == (4, 2) for e in more.entries)
    assert more.seconds == pytest.approx(sum(e.seconds for e in more.entries))
    two = forecast(make(seeds=4), out=out, device="cpu", workers=2)
    assert two.seconds == pytest.approx(more.seconds / 2)


def test_the_spread_is_that_of_a_pilot_until_the_study_has_its_own(
    make: Make, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    assert spread_record(make(), out).cells == ()
    pilot(make(), 2, out=out, device="cpu")
    other = make(seeds=3)  # finds the pilot of the study with two seeds
    assert {cell.purpose for cell in spread_record(other, out).cells} == {"pilot"}
    assert len(spread_record(other, out).cells) == 8
    run(make(seeds=3), out=out, device="cpu")
    assert {cell.purpose for cell in spread_record(other, out).cells} == {"final"}


def cell(base: Any, method: str, purpose: Any) -> PlannedCell:
    return PlannedCell(method, "base", 0, purpose, None, {}, base)


def test_a_cell_is_expected_to_take_what_its_nearest_kind_took(base: dict[str, Any]) -> None:
    pace = Pace(guess=7.0)
    a, b = cell(base, "a", "final"), cell(base, "b", "final")
    assert pace.expected(a) == 7.0
    pace.note(cell(base, "b", "trial"), 1.0)
    assert (pace.expected(a), pace.expected(b)) == (1.0, 1.0)
    pace.note(b, 4.0)
    pace.note(b, 6.0)
    assert (pace.expected(a), pace.expected(b)) == (5.0, 5.0)
    pace.note(a, 10.0)
    assert (pace.expected(a), pace.expected(b)) == (10.0, 5.0)
    assert pace.left([a, b], [(a, 4.0)], 1) == 10 + 5 + 6
    assert pace.left([a, b], [(a, 4.0)], 3) == 10  # no sooner than the longest
    assert pace.left([a], [(b, 50.0)], 2) == 10
    assert pace.left([], [], 2) == 0


def test_nobody_knows_how_long_it_takes_before_a_cell_is_done(base: dict[str, Any]) -> None:
    assert Pace().left([cell(base, "a", "final")], [], 1) is None
