"""What the engine flower refuses, tells and leaves behind, without starting Flower."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsim.engines import ray, superlink
from fedsim.errors import DivergedError, InputError, RunError

CPU = [torch.device("cpu")]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'fedsim-medical\[ray\]'"):
        ray.check(CPU)


def test_some_gpus_alone_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    both = [torch.device("cuda:0"), torch.device("cuda:1")]
    for devices in (CPU, both, [torch.device("cuda")]):
        ray.check(devices)
    with pytest.raises(InputError, match="use cuda, and CUDA_VISIBLE_DEVICES"):
        ray.check(both[1:])


@pytest.mark.parametrize("name", ["RunError", "DivergedError"])
def test_what_stopped_the_run_is_told_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "log.txt").write_text(
        "2026-01-01 00:00:00,000 ERROR failed\nTraceback (most recent call last):\n"
        "fedsim.errors.RunError: an old one\n2026-01-01 00:00:01,000 INFO started on cpu\n"
        "2026-01-01 00:00:02,000 ERROR failed\nTraceback (most recent call last):\n  x\n"
        f"fedsim.errors.{name}: round 1: site-00 failed to train: why\nand more\n"
    )
    found = ray._failure(tmp_path, "whatever Flower says")
    assert type(found) is {"RunError": RunError, "DivergedError": DivergedError}[name]
    assert str(found) == "round 1: site-00 failed to train: why\nand more"


def test_where_the_run_said_nothing_flower_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("2026-01-01 00:00:01,000 INFO started on cpu\n")
    assert str(ray._failure(tmp_path, "first\nlast\n")).endswith("it said last:\nfirst\nlast")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(pid: int, within_s: float = 20) -> bool:
    deadline = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_a_program_on_a_leash_ends_with_its_block(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with superlink.started([sys.executable, "-c", code], tmp_path, "log") as process:
        while not (said := (tmp_path / "log").read_text()):
            time.sleep(0.05)
        assert process.poll() is None
        assert alive(int(said))
    assert ended(int(said.split()[0]))


def test_a_program_on_a_leash_ends_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    inner = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    code = (
        "import sys; from pathlib import Path; from fedsim.engines import superlink\n"
        f"with superlink.started([sys.executable, '-c', {inner!r}], Path(sys.argv[1]), 'log'):\n"
        "    import time; time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, tmp_path])
    log = tmp_path / "log"
    while not (log.exists() and (said := log.read_text())):
        time.sleep(0.05)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    assert ended(int(said))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_daemon_that_stays_behind_is_ended(tmp_path: Path) -> None:
    daemon = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {daemon!r}], start_new_session=True)\n"
        "time.sleep(600)"
    )
    with superlink.started([sys.executable, "-c", code], tmp_path, "log"):
        while not (said := (tmp_path / "log").read_text()):
            time.sleep(0.05)
        assert alive(int(said))
    assert ended(int(said.split()[0]), within_s=30)


def test_a_superlink_that_does_not_start_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "flower-superlink"
    program.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    program.chmod(0o755)

    def first(home: Path) -> dict[str, Any]:
        return {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    monkeypatch.setattr(superlink, "environment", first)
    with pytest.raises(RunError, match="does not start; it says: no such luck"):
        superlink.superlink(tmp_path).__enter__()
