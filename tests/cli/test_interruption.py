"""Ctrl-C once and twice, before, in and after rounds."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping

import pytest

from fedsim.cli.interruption import finishing_rounds
from fedsim.flower.server_app import Progress


@pytest.fixture(autouse=True)
def _default_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C mean what it does in a terminal, also where tests are a job in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def progress(round: int, stage: str = "") -> Progress:
    return Progress(round, 4, None, "auroc", False, None, stage)


def rounds_done(ctrl_c: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Return the rounds that were done and told, with so many Ctrl-C in some; 5 is a stage."""
    done: list[int] = []
    told: list[int] = []

    def go_on() -> None:
        with finishing_rounds(lambda p: told.append(p.round)) as watch:
            for round in range(6):
                for _ in range(ctrl_c.get(round, 0)):
                    signal.raise_signal(signal.SIGINT)
                done.append(round)
                watch(progress(round, "comparing" * (round == 4)))

    with pytest.raises(KeyboardInterrupt):
        go_on()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return done, told


def test_once_finishes_the_round_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert rounds_done({2: 1}) == ([0, 1, 2], [0, 1, 2])
    assert "after this round; press Ctrl-C again to stop now" in capfd.readouterr().err


def test_twice_stops_at_once() -> None:
    assert rounds_done({2: 2}) == ([0, 1], [0, 1])


@pytest.mark.parametrize("round", [0, 5])
def test_outside_of_rounds_once_stops_at_once(round: int) -> None:
    assert rounds_done({round: 1})[0] == list(range(round))


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with finishing_rounds(lambda p: None) as watch:
            watch(progress(0))
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
            watch(progress(1))
    finally:
        signal.signal(signal.SIGINT, before)
