"""What is seen of a run while it goes on."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from fedsim.cli import progress
from fedsim.cli.progress import describe, watching


@dataclass(frozen=True)
class Seen:
    """What a watcher is told, as `fedsim.flower.server_app.Progress` has it."""

    round: int
    num_rounds: int = 4
    train_loss: float | None = 0.5
    metric: str = "auroc"
    evaluated: bool = True
    value: float | None = 0.75
    stage: str = ""


def tell(watch: Any, *seen: Seen) -> None:
    for progress_ in seen:
        watch(progress_)


def test_losses_and_the_metric_are_told_in_words() -> None:
    assert describe(Seen(1)) == "train loss 0.5000, validation auroc 0.7500"  # type: ignore[arg-type]


def test_what_follows_the_rounds_is_told_by_name() -> None:
    assert describe(Seen(2, stage="pooled training")) == "pooled training"  # type: ignore[arg-type]


def test_what_is_undefined_is_said_to_be() -> None:
    told = describe(Seen(0, train_loss=None, value=None))  # type: ignore[arg-type]
    assert told == "validation auroc undefined"


def test_a_round_without_evaluation_shows_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen(1, evaluated=False, value=None)
    assert describe(seen) == "train loss 0.5000"  # type: ignore[arg-type]
    idle = Seen(1, train_loss=None, evaluated=False, value=None)
    assert describe(idle) == "no site took part"  # type: ignore[arg-type]
    with watching(quiet=False, as_json=True) as watch:
        tell(watch, seen)
    line = json.loads(capsys.readouterr().out)
    assert (line["evaluated"], line["value"]) == (False, None)


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(quiet=True, as_json=True) as watch:
        tell(watch, Seen(0), Seen(1))
    assert capsys.readouterr() == ("", "")


def test_json_is_one_object_per_round_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with watching(quiet=False, as_json=True) as watch:
        tell(watch, Seen(0, train_loss=None), Seen(1))
    out, err = capsys.readouterr()
    first, second = map(json.loads, out.splitlines())
    assert first == {
        "event": "round",
        "round": 0,
        "num_rounds": 4,
        "train_loss": None,
        "stage": "",
        "metric": "auroc",
        "evaluated": True,
        "value": 0.75,
    }
    assert second["round"] == 1
    assert err == ""


def test_json_has_no_number_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(quiet=False, as_json=True) as watch:
        tell(watch, Seen(1, train_loss=float("nan"), value=float("inf")))
    line = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert line["train_loss"] is None
    assert line["value"] is None


def test_lines_go_to_standard_error_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 12.0, 14.0, 18.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with watching(quiet=False, as_json=False) as watch:
        tell(watch, *(Seen(round) for round in range(5)))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(": ")[0] for line in err.splitlines()] == [
        f"round {round}/4" for round in range(5)
    ]
    assert [line.rpartition(", about")[2] for line in err.splitlines()[1:4]] == [
        " 6 s left",
        " 4 s left",
        " 3 s left",
    ]
    assert "left" not in err.splitlines()[0] + err.splitlines()[4]


def test_the_pace_of_a_resumed_run_is_that_of_its_own_rounds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 5.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with watching(quiet=False, as_json=False) as watch:
        tell(watch, Seen(2), Seen(3))
    assert "about 5 s left" in capsys.readouterr().err


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "150")
    with watching(quiet=False, as_json=False) as watch:
        tell(watch, Seen(0), Seen(4))
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/4" in err
    assert "validation auroc 0.7500" in err
