"""What is seen of a run while it goes on: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsim.flower.server_app import Progress, Watcher


@contextmanager
def watching(quiet: bool, as_json: bool) -> Iterator[Watcher]:
    """Yield the watcher that suits the output; progress goes to stderr, JSON to stdout."""
    if quiet:
        yield lambda progress: None
    elif as_json:
        yield _json_line
    elif sys.stderr.isatty():
        with _bar() as watch:
            yield watch
    else:
        yield _Lines()


def describe(progress: Progress) -> str:
    """Return in words the loss and, if the model was evaluated, the selecting metric."""
    if progress.stage:
        return progress.stage
    parts = []
    if progress.train_loss is not None:
        parts.append(f"train loss {progress.train_loss:.4f}")
    if progress.evaluated:
        value = "undefined" if progress.value is None else f"{progress.value:.4f}"
        parts.append(f"validation {progress.metric} {value}")
    return ", ".join(parts) or "no site took part"


def _json_line(progress: Progress) -> None:
    content = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(progress).items()
    }
    sys.stdout.write(json.dumps({"event": "round", **content}) + "\n")
    sys.stdout.flush()


class _Lines:
    """One line per round with the time left, judged by the rounds seen so far."""

    def __init__(self) -> None:
        self.stage = ""
        self.started: tuple[float, int] | None = None

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        left = ""
        if self.started is None or progress.stage != self.stage:
            self.stage, self.started = progress.stage, (now, progress.round)
        elif progress.round < progress.num_rounds:
            start, first = self.started
            pace = (now - start) / (progress.round - first)
            left = f", about {pace * (progress.num_rounds - progress.round):.0f} s left"
        sys.stderr.write(
            f"round {progress.round}/{progress.num_rounds}: {describe(progress)}{left}\n"
        )
        sys.stderr.flush()


@contextmanager
def _bar() -> Iterator[Watcher]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("round"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("preparing images", total=None)
        yield lambda progress: bar.update(
            task,
            total=progress.num_rounds,
            completed=progress.round,
            description=describe(progress),
        )


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what is to be told how many are done, of how many; it shows them in a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
