"""The virtual clock in pictures: what is drawn is what is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from fedsim.report import canvas, figures, timeline, write
from fedsim.report.timeline import ROUNDS_SHOWN, SITES_SHOWN, Unit

NAMES = {"timeline", "learning_curves_virtual_time"}


def bars(axes: Any) -> dict[str, list[tuple[float, float, float]]]:
    """Return colour -> (row, start, end) in seconds, of an axis in minutes, of each bar."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for collection in axes.collections:
        assert isinstance(collection, PolyCollection)
        colour = to_hex(collection.get_facecolor()[0])
        for path in collection.get_paths():
            (left, low), (right, high) = path.vertices.min(axis=0), path.vertices.max(axis=0)
            if right > left:
                found.setdefault(colour, []).append(
                    (round((low + high) / 2, 6), round(60 * left, 6), round(60 * right, 6))
                )
    return found


def test_without_a_clock_there_is_no_such_figure(make_record: Any, tmp_path: Path) -> None:
    assert not NAMES & set(figures.draw(make_record()))
    record = make_record(tmp_path, virtual=True)
    assert set(figures.draw(record)) >= NAMES
    names = {path.name for path in write(record)}
    assert {"timeline.svg", "learning_curves_virtual_time.png"} <= names


def test_bars_are_the_recorded_times(make_record: Any) -> None:
    axes = timeline.timeline(make_record(sites=3, rounds=2, virtual=True)).axes[0]
    found = bars(axes)
    assert axes.get_xlabel() == "virtual time (min)"
    assert sorted(found[canvas.BLUE.lower()]) == [
        (0, 5, 15),
        (0, 105, 115),
        (1, 5, 25),
        (1, 105, 125),
    ]
    assert (0, 0, 5) in found[canvas.SKY.lower()]
    assert (1, 125, 130) in found[canvas.SKY.lower()]
    late = found[canvas.ORANGE.lower()]
    assert {row for row, _, _ in late} == {2}
    assert min(start for _, start, _ in late) == 0
    assert [text.get_text() for text in axes.texts] == ["10 %", "20 %", "30 %"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"site-0{number}, t4" for number in range(3)
    ]


def test_the_share_of_computing_is_over_the_whole_run(make_record: Any) -> None:
    record = make_record(sites=2, rounds=40, virtual=True)
    shares = timeline.computing_share(record)
    assert shares == {"site-00": pytest.approx(0.1), "site-01": pytest.approx(0.2)}
    assert timeline.computing_share(make_record()) == {}


def test_a_long_run_of_many_sites_shows_what_has_room(make_record: Any) -> None:
    figure = timeline.timeline(make_record(sites=60, rounds=30, virtual=True))
    axes = figure.axes[0]
    assert len(axes.get_yticklabels()) == SITES_SHOWN
    assert axes.get_xlim() == (0, pytest.approx(100 * ROUNDS_SHOWN / 60))
    assert axes.get_xlabel() == "virtual time (min)"
    assert any("no room: 20." in text.get_text() for text in figure.texts)


def test_metrics_stand_at_the_time_when_their_round_ended(make_record: Any) -> None:
    record = make_record(rounds=4, virtual=True)
    over_time = figures.draw(record)["learning_curves_virtual_time"].axes[0]
    over_rounds = figures.draw(record)["learning_curves"].axes[0]
    ends = [60 * x for x in over_time.lines[0].get_xdata()]
    assert ends == pytest.approx([0, 100, 200, 300, 400])
    assert list(over_rounds.lines[0].get_xdata()) == [0, 1, 2, 3, 4]
    assert list(over_time.lines[0].get_ydata()) == list(over_rounds.lines[0].get_ydata())
    assert over_time.get_xlabel() == "virtual time (min)"


def test_a_clock_that_stood_still_can_be_drawn(make_record: Any) -> None:
    record = make_record(rounds=2, virtual=True)
    for row in record.rounds:
        row["virtual"] = {"begin_s": 0.0, "end_s": 0.0, "tasks": []}
    for figure in figures.draw(record).values():
        assert canvas.encode(figure, "png")


@pytest.mark.parametrize(
    ("seconds", "name"),
    [(0.0, "ms"), (1.9, "ms"), (2, "s"), (119, "s"), (5000, "min"), (1e6, "h")],
)
def test_units_suit(seconds: float, name: str) -> None:
    assert Unit.suited(seconds).name == name
