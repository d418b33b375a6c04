"""Worker processes begin in the environment of now, and wherever forks cannot be had."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from fedsim.engines import nursery

pytestmark = pytest.mark.slow  # starting processes takes seconds
NAME = "FEDSIM_TEST_NURSERY"


def tell(pipe: Connection[Any, Any]) -> None:
    """Say what a worker finds around it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    pipe.send((os.environ.get(NAME), os.getppid(), parent.pid, "torch" in sys.modules))


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
