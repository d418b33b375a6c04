"""A program that ends when its starter does: `python -m fedsim.engines.leash PROGRAM ARGUMENT...`.

The starter holds the other end of standard input. It reads as ended when the starter closes it, or
dies, however that happens; then the program gets Ctrl-C, and a while to end by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

GRACE_S = 10.0
"""Seconds that the program gets to end."""
LOOK_S = 0.5
"""Seconds between looks of those that follow it."""
HOLDER = "FEDSIM_LEASH"
"""Environment variable that tells a program and what it starts who holds the leash."""


def hold(command: Sequence[str]) -> int:
    """Run a program until it ends or standard input does, and return its exit code."""
    holder = os.getpid()
    environment = {**os.environ, HOLDER: str(holder)}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
    threading.Thread(target=_end_with_input, args=(process,), daemon=True).start()
    code = process.wait()
    if sys.platform == "linux" and os.fork() == 0:
        _end_those_left(holder)
        os._exit(0)
    return code


def follow(last: Callable[[], None]) -> None:
    """Let this process end soon after the leash that it is on does, if it is on one.

    For what a program starts: Flower's processes try for minutes to reach a SuperLink that is gone.

    Args:
        last: what to do before, for as long as the grace lasts.
    """
    if holder := os.environ.get(HOLDER):
        threading.Thread(target=_end_with, args=(int(holder), last), daemon=True).start()


def end_with_parent() -> None:
    """Let this process of `multiprocessing` end when its parent ends, however that ends."""
    threading.Thread(target=_end_after_parent, daemon=True).start()


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end_with_input(process: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1):  # unlike its buffer, no hindrance to ending
        pass
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _end_with(holder: int, last: Callable[[], None]) -> None:
    while _is_there(holder):
        time.sleep(LOOK_S)
    thread = threading.Thread(target=last, daemon=True)
    thread.start()
    thread.join(GRACE_S)
    os._exit(1)


def _end_those_left(holder: int) -> None:
    """Kill what has not ended after its own grace; now and then a daemon of Ray's does not."""
    deadline = time.monotonic() + GRACE_S
    while (left := _on_leash(holder)) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _on_leash(holder: int) -> list[int]:
    """Return all processes that the program has started, those that left its group included."""
    mark, found = f"{HOLDER}={holder}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(hold(sys.argv[1:]))
