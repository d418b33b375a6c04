"""Sides of a race that take turns round by round, each in processes of its own.

A side is a command. Before every round it waits for a line on its standard input, and after the
round it prints the seconds that it took; between rounds it does nothing. So both sides meet the
same machine, whatever else that does.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

PATIENCE_S = 60.0


class Side:
    """One side, as the race sees it.

    Args:
        command: what to run.
        environments: one per process, added to that of this process; the first process takes turns,
            and others wait for it.
    """

    def __init__(
        self, command: Sequence[str], environments: Sequence[Mapping[str, str]] = ({},)
    ) -> None:
        first, *others = ({**os.environ, **environment} for environment in environments)
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self._first = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=first, text=True)
        self._others = [subprocess.Popen(command, stdin=nothing, env=env) for env in others]

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._others:
            process.kill()
            process.wait()
        assert self._first.stdin is not None
        self._first.stdin.close()
        try:
            self._first.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._first.kill()
            self._first.wait()

    def round(self) -> float:
        """Let the side run a round and return the seconds that it took."""
        assert self._first.stdin is not None
        assert self._first.stdout is not None
        print(file=self._first.stdin, flush=True)
        line = self._first.stdout.readline()
        if not line:
            raise SystemExit(f"{self._first.args!r} ended with {self._first.wait()}")
        return float(line)


class Turn:
    """What the first process of a side calls before its first round and after every round."""

    def __init__(self) -> None:
        self._start: float | None = None

    def __call__(self) -> None:
        """Tell how long the round took, and wait for the next one; ends the process if none is."""
        if self._start is not None:
            print(time.perf_counter() - self._start, flush=True)
        if not sys.stdin.readline():
            raise SystemExit
        self._start = time.perf_counter()


def take_turns(sides: Sequence[Side], num_warmup: int, num_rounds: int) -> list[list[float]]:
    """Return the seconds of each side's counted rounds, which alternate; then end the sides."""
    with ExitStack() as stack:
        for side in sides:
            stack.enter_context(side)
        rows = [[side.round() for side in sides] for _ in range(num_warmup + num_rounds)]
    return [list(column) for column in zip(*rows[num_warmup:], strict=True)]


def quotient(ones: Sequence[float], others: Sequence[float]) -> float:
    """Return the median over neighbouring rounds of one side's seconds / the other's."""
    return statistics.median(a / b for a, b in zip(ones, others, strict=True))
