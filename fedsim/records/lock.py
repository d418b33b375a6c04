"""The lock of a run folder: at most one process writes to it, and others are told which."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import TextIO

from fedsim.errors import InUseError
from fedsim.records.files import writing

FILE = ".lock"


def hold(folder: Path) -> TextIO:
    """Return the lock of a folder, held until it is closed or this process ends.

    It says who holds it; a lock that is a link is held, but nothing is written through it.

    Raises:
        InUseError: if another process holds it.
        RunError: if the system cannot make it.
    """
    path = folder / FILE
    with writing(path):
        lock = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise InUseError(
                f"{folder}: another process is running this{_holder(path)}; wait for it or end it"
            ) from None
        if not path.is_symlink():
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
    return lock


def _holder(path: Path) -> str:
    """Return who holds a lock, as far as it says so."""
    if path.is_symlink():
        return ""
    with path.open("rb") as file:
        name = file.read(200).decode("utf-8", errors="replace")
    return f" ({name})" if name.startswith("process ") else ""
