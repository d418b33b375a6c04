"""What is seen of a study while it goes on: bars in a terminal, a line per cell elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fedsim.cli.quantities import time

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from fedsim.study.progress import StudyProgress, StudyWatcher

NAME_WIDTH = 40


@contextmanager
def watching_study(quiet: bool, as_json: bool) -> Iterator[StudyWatcher]:
    """Yield the watcher that suits the output; progress goes to stderr, JSON to stdout."""
    if quiet:
        yield lambda progress: None
    elif as_json:
        yield _json_line
    elif sys.stderr.isatty():
        with _bars() as watch:
            yield watch
    else:
        yield _Lines()


def state(progress: StudyProgress) -> str:
    """Return in words what failed, what was there, and how much time is left."""
    parts = []
    if progress.num_failed:
        parts.append(f"{progress.num_failed} failed")
    if progress.num_reused:
        parts.append(f"{progress.num_reused} were there")
    settled = progress.num_done + progress.num_failed
    if progress.seconds_left is not None and settled < progress.num_cells:
        parts.append(f"about {time(progress.seconds_left)} left")
    return ", ".join(parts)


def _json_line(progress: StudyProgress) -> None:
    if progress.settled is None:
        return
    content = {
        "event": "cell",
        "cell": progress.settled,
        "error": progress.error,
        "num_done": progress.num_done,
        "num_failed": progress.num_failed,
        "num_reused": progress.num_reused,
        "num_cells": progress.num_cells,
        "seconds_left": progress.seconds_left,
    }
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


class _Lines:
    """One line per cell that was run or failed; those that were there already are counted."""

    def __init__(self) -> None:
        self.num_reused = 0

    def __call__(self, progress: StudyProgress) -> None:
        was_there, self.num_reused = progress.num_reused > self.num_reused, progress.num_reused
        if progress.settled is None or was_there:
            return
        what = f"failed: {progress.error}" if progress.error else "done"
        about = state(progress)
        sys.stderr.write(
            f"cell {progress.num_done + progress.num_failed}/{progress.num_cells}: "
            f"{progress.settled} {what}{f' ({about})' if about else ''}\n"
        )
        sys.stderr.flush()


@contextmanager
def _bars() -> Iterator[StudyWatcher]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[about]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars)


class _Bars:
    """One bar for all cells, and one for each that runs."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._all = bars.add_task("cells", total=None, about="checks the sites")
        self._cells: dict[str, TaskID] = {}

    def __call__(self, progress: StudyProgress) -> None:
        settled = progress.num_done + progress.num_failed
        self._bars.update(
            self._all, total=progress.num_cells, completed=settled, about=state(progress)
        )
        if progress.error:
            failure = f"{progress.settled} failed: {progress.error}"
            self._bars.console.print(failure, markup=False, highlight=False)
        names = {running.cell for running in progress.running}
        for name in self._cells.keys() - names:
            self._bars.remove_task(self._cells.pop(name))
        for running in progress.running:
            if running.cell not in self._cells:
                self._cells[running.cell] = self._bars.add_task(
                    _short(running.cell), total=running.num_rounds, about=""
                )
            self._bars.update(
                self._cells[running.cell], completed=running.round, about=running.stage
            )


def _short(name: str) -> str:
    """Return the name of a cell, its middle left out if it is long."""
    if len(name) <= NAME_WIDTH:
        return name
    return f"{name[: NAME_WIDTH // 2 - 2]}...{name[-(NAME_WIDTH // 2 - 1) :]}"
