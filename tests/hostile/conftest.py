"""Files that nobody should have written, put before the command line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedsim.cli import main

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Answer:
    """What the command line said."""

    code: int
    out: str
    err: str


Ask = Callable[..., Answer]
PATIENCE_S = 300


@pytest.fixture(autouse=True)
def _nobody_waits() -> Iterator[None]:
    """Fail a test that hangs, for example on a pipe that nobody writes to."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits without end"))
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Call the command line in an empty folder, which must stay as it is."""

    def call(*arguments: str | Path) -> Answer:
        before = set(tmp_path.iterdir())
        monkeypatch.setattr(sys, "argv", ["fedsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        assert set(tmp_path.iterdir()) == before
        return Answer(int(exit_.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def refused(ask: Ask) -> Callable[..., str]:
    """Return what is said of bad input, once it is said as it must be."""

    def call(*arguments: str | Path) -> str:
        answer = ask(*arguments)
        assert answer.code == 2, answer
        assert answer.out == ""
        assert "Traceback" not in answer.err
        assert len(answer.err) < 50_000
        assert all(c.isprintable() or c == "\n" for c in answer.err)
        said = answer.err.lstrip("\n")
        assert said.startswith(("Error: ", "Usage: "))
        return said.removeprefix("Error: ")

    return call


@pytest.fixture(scope="session")
def valid() -> str:
    """The text of a valid scenario with a key on each line."""
    return (HERE / "scenario.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def valid_study() -> str:
    """The text of a valid study, whose base is `base.yaml` beside it."""
    return (HERE / "study.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def base() -> str:
    """The text of the study's base: a small scenario."""
    return (HERE / "base.yaml").read_text(encoding="utf-8")
