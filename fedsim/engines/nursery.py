"""Where worker processes come from.

On Linux they are forks of one process that loads beside the main one what all of them need, so that
a worker is there at once. Elsewhere forks are not safe, nor are they for workers on a GPU, of which
nobody may have asked anything before: there each is started anew and loads by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = "fedsim.engines.preloaded"


def prepare() -> bool:
    """Start the process that workers are forks of, unless it is there.

    Returns:
        Whether it is there; it goes on loading meanwhile.
    """
    if sys.platform != "linux":
        return False
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload([PRELOADED])
    try:
        with deaf(), same_path():
            forkserver.ensure_running()
    except OSError:  # the name of the temporary folder may be too long for that of a socket
        return False
    return True


def start(device: str, work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a worker process, which ends with this one at the latest.

    Args:
        device: torch's name of where it computes.
        work: what it does, with these arguments.
        arguments: that can be pickled.
    """
    method = "forkserver" if device == "cpu" and prepare() else "spawn"
    context: Any = multiprocessing.get_context(method)
    process: BaseProcess = context.Process(
        target=_surrounded, args=(dict(os.environ), work, arguments), daemon=True
    )
    with deaf() if method == "spawn" else nullcontext():  # forks are as deaf as what they are of
        process.start()
    return process


def _surrounded(
    environment: dict[str, str], work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """Work in the environment of now; what a fork has is that of when the first one was made."""
    os.environ.clear()
    os.environ.update(environment)
    work(*arguments)


@contextmanager
def deaf() -> Iterator[None]:
    """Let a process that is started here begin deaf to Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def same_path() -> Iterator[None]:
    """Let a process that is started here find modules, and so plug-ins, where this one does."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
