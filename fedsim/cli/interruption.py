"""Ctrl-C once lets the round be finished, twice stops at once; either way a run can go on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsim.flower.server_app import Progress, Watcher

SAID = b"\nStopping after this round; press Ctrl-C again to stop now.\n"


@contextmanager
def finishing_rounds(watch: Watcher) -> Iterator[Watcher]:
    """Let the first Ctrl-C in a round wait for its end.

    Before the first round and after the last one, and where the program that started this one made
    Ctrl-C mean something else, it means what it did.

    Args:
        watch: is told after every round.

    Yields:
        What is to be told instead; it raises KeyboardInterrupt at the end of such a round.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield watch
        return
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)
        with suppress(OSError, ValueError):  # a stream could be in the middle of writing
            os.write(sys.stderr.fileno(), SAID)

    def after(progress: Progress) -> None:
        signal.signal(signal.SIGINT, before)
        watch(progress)
        if asked:
            raise KeyboardInterrupt
        if not progress.stage and progress.round < progress.num_rounds:
            signal.signal(signal.SIGINT, ask)

    try:
        yield after
    finally:
        signal.signal(signal.SIGINT, before)
