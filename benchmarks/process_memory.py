"""The memory of a process and of all that it started (Linux).

What files hold, such as the code of libraries, is left out: its share for one process grows
whenever another one on the machine that uses the same library ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")
COUNTED = ("Pss_Anon:", "Pss_Shmem:")


def family(pid: int) -> Iterator[int]:
    """Yield a process and all processes below it."""
    yield pid
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in (PROC / str(pid) / "task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from family(int(child))


def proportional(pid: int) -> int:
    """Return the bytes of a process; a page that n processes share counts as 1 / n of a page."""
    with suppress(FileNotFoundError, ProcessLookupError):
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(COUNTED))
    return 0


def held(pid: int) -> int:
    """Return the bytes of a process and of all below it; what they share counts once."""
    return sum(map(proportional, family(pid)))


@contextmanager
def sampled(measure: Callable[[], int], pause_s: float) -> Iterator[list[int]]:
    """Call `measure` again and again in a thread until the block ends."""
    samples: list[int] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(pause_s):
            samples.append(measure())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
