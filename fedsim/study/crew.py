"""Who runs the cells: this process, or several that run one each.

A cell is computed by one thread wherever it runs, so it has the same bits in any crew.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim import simulate
from fedsim.engines.leash import end_with_parent
from fedsim.engines.nursery import deaf
from fedsim.errors import DivergedError, ExistsError, InUseError
from fedsim.records.study import DIVERGED
from fedsim.scenario import from_data

if TYPE_CHECKING:
    from fedsim.flower.server_app import Progress, Watcher

GRACE_S = 5.0
"""Seconds that a worker gets to end by itself."""
Tell = Callable[[Path, "Progress"], None]
"""Called with the folder of a run after each of its rounds."""


@dataclass(frozen=True)
class Order:
    """One run.

    Args:
        scenario: resolved, plain data.
        folder: of the run; it goes on if it is there.
    """

    scenario: dict[str, Any]
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What came of an order.

    Args:
        order: that was carried out.
        seconds: that it took.
        error: what went wrong, None if nothing.
        killed: whether the worker died over it, for a reason that may be gone the next time.
        in_use: whether another process has the run.
    """

    order: Order
    seconds: float
    error: str | None
    killed: bool = False
    in_use: bool = False


class Alone:
    """A crew of this process.

    Args:
        device: torch's name of where to compute.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._order: Order | None = None

    @property
    def num_workers(self) -> int:
        """One."""
        return 1

    @property
    def num_idle(self) -> int:
        """How many orders it takes now."""
        return int(self._order is None)

    def give(self, order: Order) -> None:
        """Take an order."""
        self._order = order

    def outcome(self, tell: Tell) -> Outcome:
        """Carry out the order."""
        order, self._order = self._order, None
        assert order is not None, "idle"
        return carry_out(order, self._device, lambda progress: tell(order.folder, progress))

    def close(self) -> None:
        """Nothing is left behind."""


class Workers:
    """A crew of processes that live as long as the study.

    Args:
        devices: torch's name of the device of each.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self._workers = [_Worker(device) for device in devices]

    @property
    def num_workers(self) -> int:
        """How many there are."""
        return len(self._workers)

    @property
    def num_idle(self) -> int:
        """How many orders they take now."""
        return sum(worker.order is None for worker in self._workers)

    def give(self, order: Order) -> None:
        """Let an idle worker carry out an order."""
        next(worker for worker in self._workers if worker.order is None).give(order)

    def outcome(self, tell: Tell) -> Outcome:
        """Return what comes of the next order that ends."""
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker.order is not None}
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                order = worker.order
                assert order is not None, "busy"
                message = worker.message()
                if isinstance(message, Outcome):
                    return message
                if message is None:
                    self._workers[self._workers.index(worker)] = _Worker(worker.device)
                    return Outcome(order, 0.0, f"the worker died ({worker.last_words()})", True)
                tell(order.folder, message)

    def close(self) -> None:
        """End all workers at once; what they have not finished goes on another time."""
        for worker in self._workers:
            worker.end()


class _Worker:
    """One worker process, as the main process sees it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.order: Order | None = None
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, device), daemon=True)
        with deaf():
            self._process.start()
        theirs.close()

    def give(self, order: Order) -> None:
        self.order = order
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(order)  # a process that died is noticed when its message is read

    def message(self) -> Progress | Outcome | None:
        """Return what the worker says, None if its process died."""
        try:
            message: Progress | Outcome | None = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            message = None
            self.end()
        if message is None or isinstance(message, Outcome):
            self.order = None
        return message

    def last_words(self) -> str:
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"

    def end(self) -> None:
        if self.order is None:
            with contextlib.suppress(OSError):
                self.pipe.send(None)
            self._process.join(GRACE_S)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(GRACE_S)
        self.pipe.close()


def carry_out(order: Order, device: str, watch: Watcher) -> Outcome:
    """Run a scenario, or go on with its run, whatever comes of it."""
    begun, error, in_use = time.perf_counter(), None, False
    try:
        with _unheard():
            _run(order, device, watch)
    except DivergedError as failure:
        error = f"{DIVERGED}{failure}"
    except InUseError as failure:
        error, in_use = str(failure), True
    except Exception as failure:  # a cell must not sink the others
        error = f"{type(failure).__name__}: {failure}"
    return Outcome(order, time.perf_counter() - begun, error, in_use=in_use)


def _run(order: Order, device: str, watch: Watcher) -> None:
    """Begin a run, or go on with one that is there or comes meanwhile."""
    out, name = order.folder.parent, order.folder.name
    if not order.folder.exists():
        scenario = from_data(order.scenario, name)
        with contextlib.suppress(ExistsError):
            simulate.run(scenario, out=out, name=name, device=device, watch=watch)
            return
    simulate.resume(order.folder, device=device, watch=watch)


def _work(pipe: Connection[Any, Any], device: str) -> None:
    """Carry out orders until told to end, or until the main process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()
    with contextlib.suppress(EOFError):
        while (order := pipe.recv()) is not None:
            pipe.send(carry_out(order, device, pipe.send))


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep what fedsim warns of off the screen: the log of the run has it."""
    log = logging.getLogger("fedsim")
    handlers, log.handlers = log.handlers, [logging.NullHandler()]
    propagates, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.handlers, log.propagate = handlers, propagates
