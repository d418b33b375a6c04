"""Worker processes begin in the environment of now, and wherever forks cannot be had."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from fedsim.engines import nursery
from fedsim.scenario import Scenario

pytestmark = pytest.mark.slow  # starting processes takes seconds
NAME = "FEDSIM_TEST_NURSERY"
PLUG_IN = """
from typing import Literal
from strategies import WeightedMean

class Beside(WeightedMean):
    kind: Literal["beside"] = "beside"
"""
SCRIPT = """
import json, pathlib, fedsim
from fedsim.scenario import from_data

if __name__ == "__main__":
    file = pathlib.Path(__file__).parent / "scenario.json"
    scenario = from_data(json.loads(file.read_text()), "script")
    print(fedsim.run(scenario, out=".", device="cpu", workers=2).folder)
"""


def tell(pipe: Connection[Any, Any]) -> None:
    """Say what a worker finds around it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    pipe.send((os.environ.get(NAME), os.getppid(), parent.pid, "torch" in sys.modules))


def say_how_deaf(pipe: Connection[Any, Any]) -> None:
    """Say what a worker does at Ctrl-C before it decides."""
    pipe.send(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Press Ctrl-C while a worker is started; yields what was heard of it."""
    heard: list[int] = []
    launch = BaseProcess.start

    def press(self: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        launch(self)

    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    monkeypatch.setattr(BaseProcess, "start", press)
    yield heard
    signal.signal(signal.SIGINT, before)


def told(device: str) -> tuple[str | None, int, int, bool]:
    ours, theirs = multiprocessing.Pipe()
    process = nursery.start(device, tell, theirs)
    found: tuple[str | None, int, int, bool] = ours.recv()
    process.join()
    assert process.exitcode == 0
    return found


def test_a_worker_has_the_environment_of_when_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("cpu")[0] is None
    monkeypatch.setenv(NAME, "set since")
    assert told("cpu")[0] == "set since"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_a_worker_on_the_cpu_is_a_fork_that_has_everything_loaded() -> None:
    _, forked_by, parent, loaded = told("cpu")
    assert (forked_by != parent, parent, loaded) == (True, os.getpid(), True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_ctrl_c_is_heard_while_a_worker_is_forked_and_not_by_the_worker(
    pressed: list[int],
) -> None:
    from multiprocessing import forkserver

    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    ours, theirs = multiprocessing.Pipe()
    process = nursery.start("cpu", say_how_deaf, theirs)
    assert pressed == [signal.SIGINT]
    assert ours.recv()
    process.join()


def test_a_worker_on_a_gpu_begins_deaf_to_ctrl_c(pressed: list[int]) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = nursery.start("cuda:0", say_how_deaf, theirs)
    assert ours.recv()
    process.join()


def test_a_worker_on_a_gpu_is_no_fork() -> None:
    assert told("cuda:0")[1:3] == (os.getpid(), os.getpid())


def test_a_temporary_folder_whose_name_is_too_long_for_a_socket_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setitem(multiprocessing.process.current_process()._config, "tempdir", None)  # type: ignore[attr-defined]
    if sys.platform == "linux":
        from multiprocessing import forkserver

        monkeypatch.setattr(forkserver._forkserver, "_forkserver_pid", None)
    assert told("cpu")[1:3] == (os.getpid(), os.getpid())


def test_workers_of_a_script_know_the_plug_in_that_lies_beside_it(
    tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    about = tmp_path / "beside-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: beside\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fedsim.strategies]\nbeside = beside:Beside\n")
    (tmp_path / "beside.py").write_text(PLUG_IN)
    (tmp_path / "script.py").write_text(SCRIPT)
    content = {**tiny(rounds=1).resolved(), "strategy": {"kind": "beside"}}
    (tmp_path / "scenario.json").write_text(json.dumps(content))
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
