"""The command line in processes that are forked from this one, so that imports are waited for once.

This process must have computed nothing before: what it forks has its memory, but not its threads.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401
import torch  # noqa: F401

import fedsim.report
import fedsim.simulate  # noqa: F401
from fedsim.cli import main

OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir")
"""What Python tells of files before it does it."""
MARK = "FEDSIM_FAULTS"
"""Environment variable that tells which processes were started from here."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        process: its number.
        code: exit code, negative for a signal.
        seconds: that it took.
        said: what it wrote on standard output and error.
    """

    process: int
    code: int
    seconds: float
    said: str


@dataclass(frozen=True)
class Kill:
    """When a command is killed: at whichever of the two comes, if one does.

    Args:
        after_s: seconds from its beginning.
        at_operation: number of a file operation below the output folder, from 1.
    """

    after_s: float | None = None
    at_operation: int | None = None


def execute(arguments: Sequence[str], folder: Path, kill: Kill = Kill()) -> Ended:
    """Run `fedsim ARGUMENT...` in a fork of this process, and kill it if told to.

    Args:
        arguments: of the command line.
        folder: gets what it says, `said.txt`, and temporary files; `runs` and `cache` below it are
            where file operations count.
        kill: when.
    """
    said, begin = folder / "said.txt", time.monotonic()
    process = os.fork()
    if not process:
        _become(arguments, folder, said, kill.at_operation)
    status = _wait(process, None if kill.after_s is None else begin + kill.after_s)
    code = os.waitstatus_to_exitcode(status)
    return Ended(process, code, time.monotonic() - begin, said.read_text(errors="replace"))


def num_operations(folder: Path) -> int:
    """Return the file operations of the command that ended last in a folder."""
    return int((folder / "operations.txt").read_text())


def marked(mark: str) -> list[int]:
    """Return the processes that were started by a marked process, however far down."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:  # it has ended
            continue
    return found


def new_mark() -> str:
    """Mark all that is started from now on, and return the mark."""
    os.environ[MARK] = mark = uuid.uuid4().hex
    return mark


def _wait(process: int, deadline: float | None) -> int:
    if deadline is None:
        return os.waitpid(process, 0)[1]
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1]


def _become(arguments: Sequence[str], folder: Path, said: Path, last: int | None) -> None:
    """Be the command in this process, to its end."""
    code = 1
    try:
        descriptor = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.environ["FEDSIM_CACHE_DIR"] = str(folder / "cache")
        os.environ["TMPDIR"] = str(folder / "tmp")
        (folder / "tmp").mkdir(exist_ok=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["fedsim", *arguments]
        counted = _count_operations((str(folder / "runs"), str(folder / "cache")), last)
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        (folder / "operations.txt").write_text(str(counted[0]))
    finally:
        os._exit(code)


def _count_operations(below: tuple[str, ...], last: int | None) -> list[int]:
    """Count file operations below folders, and die before the last one."""
    counted = [0]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and str(arguments[0]).startswith(below):
            counted[0] += 1
            if counted[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)
    return counted
