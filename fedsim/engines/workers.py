"""Clients in processes of their own: the same messages and ClientApp, on several cores.

Workers live as long as the run and train with one thread each, as the in-process engine does, so
a site computes the same bits wherever it runs. Images and the global model lie in shared memory;
local models come back through shared memory too, and small values through pipes. Sites that took
longest the last time go first.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedsim.engines import shared
from fedsim.engines.inline import (
    SERVER_NODE,
    InlineGrid,
    failure,
    flower_identity,
    repeatable,
)
from fedsim.engines.shared import Attached, Layout, Made, Packed

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.data.source import Split

GRACE_S = 5.0
"""Seconds that a worker gets to end by itself."""
NEEDED: Mapping[str, tuple[Split, ...]] = {
    "train": ("train",),
    "evaluate": ("validation", "test"),
    "query": (),
}
"""Message type -> the splits that a client looks at."""


@dataclass(frozen=True)
class Start:
    """What a worker needs to begin.

    Args:
        scenario: resolved, plain data.
        device: torch's name of where to compute.
        num_sites: of the run.
    """

    scenario: dict[str, Any]
    device: str
    num_sites: int


@dataclass(frozen=True)
class Task:
    """One message for one site.

    Args:
        number: place among the messages.
        site: that answers.
        type: of the message.
        packed: its content.
        block: shared memory with the arrays of its content.
        examples: the site's examples of each split that is needed.
    """

    number: int
    site: int
    type: str
    packed: Packed
    block: str
    examples: Mapping[Split, Layout]


@dataclass(frozen=True)
class Answer:
    """What a worker made of a task.

    Args:
        number: of the task.
        packed: content of the reply, or None if the client failed.
        block: shared memory with its arrays.
        error: what went wrong, if the client failed.
        seconds: that it took.
    """

    number: int
    packed: Packed | None
    block: str
    error: str
    seconds: float


class WorkerGrid(InlineGrid):
    """A grid whose nodes are spread over worker processes.

    Args:
        start: what workers begin with.
        population: whose images are shared.
        num_workers: processes.
    """

    def __init__(self, start: Start, population: Population, num_workers: int) -> None:
        super().__init__(ClientApp(), start.num_sites)
        self._start, self._population = start, population
        self._examples: dict[tuple[int, Split], tuple[Made, Layout]] = {}
        self._seconds: dict[tuple[str, int], float] = {}
        self._workers = [_Worker(start) for _ in range(num_workers)]

    def close(self) -> None:
        """End all workers and give shared memory back."""
        for worker in self._workers:
            worker.ask_to_end()
        for worker in self._workers:
            worker.end()
        for made, _ in self._examples.values():
            made.close()
        self._examples.clear()

    def _answers(self, messages: Sequence[Message]) -> list[Message]:
        """Run the clients of these messages in workers and return their replies in order."""
        models: dict[int, tuple[Packed, Made]] = {}
        try:
            tasks = [self._task(n, message, models) for n, message in enumerate(messages)]
            found = self._distribute(tasks)
        finally:
            for _, made in models.values():
                made.close()
        answers = [found[number] for number in range(len(messages))]
        return [
            failure(message, answer)
            if isinstance(answer, str)
            else Message(answer, reply_to=message)
            for message, answer in zip(messages, answers, strict=True)
        ]

    def _task(self, number: int, message: Message, models: dict[int, tuple[Packed, Made]]) -> Task:
        """Return the task of a message; messages with the same content share their memory."""
        content = message.content
        if id(content) not in models:
            packed, parts = shared.pack(content)
            made = Made(packed.num_bytes)
            shared.fill(made.buffer, parts)
            models[id(content)] = packed, made
        packed, made = models[id(content)]
        site = int(self._contexts[message.metadata.dst_node_id].node_config["partition-id"])
        kind = message.metadata.message_type
        examples = {split: self._shared(site, split) for split in NEEDED[kind]}
        return Task(number, site, kind, packed, made.memory.name, examples)

    def _shared(self, site: int, split: Split) -> Layout:
        """Return where a site's examples lie; they are made and shared when first needed."""
        if (site, split) not in self._examples:
            examples = self._population.examples(site, split)
            self._examples[site, split] = shared.share([examples.images, examples.labels])
        return self._examples[site, split][1]

    def _distribute(self, tasks: Sequence[Task]) -> dict[int, RecordDict | str]:
        """Give tasks to workers, the longest first, and return what their replies hold.

        Where there is none, why it is so. A task over which a process died is given to a new one,
        once.
        """
        waiting = sorted(tasks, key=self._expected)
        failed_once: set[int] = set()
        found: dict[int, RecordDict | str] = {}
        while len(found) < len(tasks):
            for worker in self._workers:
                if waiting and worker.task is None:
                    worker.give(waiting.pop())
            for worker in _ready(self._workers):
                task = worker.task
                assert task is not None
                answer = worker.answer()
                if answer is None:
                    self._workers[self._workers.index(worker)] = _Worker(self._start)
                    if task.number in failed_once:
                        found[task.number] = (
                            f"its process died twice ({worker.last_words()}); it may need more "
                            "memory than there is"
                        )
                    else:
                        failed_once.add(task.number)
                        waiting.append(task)
                    continue
                if answer.packed is None:
                    found[task.number] = answer.error
                    continue
                self._seconds[task.type, task.site] = answer.seconds
                found[task.number] = shared.unpack(answer.packed, worker.memory(answer.block))
        return found

    def _expected(self, task: Task) -> tuple[float, int]:
        """Return the seconds that a task took the last time, or its size where it is new."""
        size = len(self._population.indices[task.site]["train"])
        return self._seconds.get((task.type, task.site), 0.0), size


class _Worker:
    """One worker process, as the main process sees it."""

    def __init__(self, start: Start) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._prefix = f"fedsim-{uuid.uuid4().hex[:16]}"
        arguments = theirs, start, self._prefix
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._attached = Attached()
        self._block = ""
        self.task: Task | None = None

    @property
    def pipe(self) -> Connection[Any, Any]:
        """Where answers come from; it reads as ended when the process does."""
        return self._pipe

    def give(self, task: Task) -> None:
        """Let the worker do a task."""
        self.task = task
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(task)  # a process that died is noticed when its answer is read

    def answer(self) -> Answer | None:
        """Return what came of the task, or None if the process died over it."""
        self.task = None
        try:
            found: Answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self.end()
            return None
        return found

    def memory(self, block: str) -> memoryview:
        """Return the bytes that the worker wrote."""
        if block != self._block:
            self._attached.forget(self._block)
            self._block = block
        return self._attached.memory(block)

    def last_words(self) -> str:
        """Return how the process ended."""
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"

    def ask_to_end(self) -> None:
        """Let the process end after what it is doing."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)

    def end(self) -> None:
        """Wait for the process, or end it."""
        self._process.join(0 if self.task is not None else GRACE_S)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(GRACE_S)
        self._pipe.close()
        self._attached.close()
        last = int(self._block.rpartition("-")[2] or 0)
        for number in (last, last + 1):  # what a process that was killed could not give back
            shared.unlink(f"{self._prefix}-{number}")


def _ready(workers: Iterable[_Worker]) -> Iterator[_Worker]:
    """Yield the workers whose answer is there, or whose process ended; waits for one at least."""
    busy = {worker.pipe: worker for worker in workers if worker.task is not None}
    for pipe in wait(list(busy)):
        yield busy[pipe]  # type: ignore[index]


def _work(pipe: Connection[Any, Any], start: Start, prefix: str) -> None:
    """Answer tasks until told to end, or until the main process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with repeatable(), flower_identity():
        desk = _Desk(start, prefix)
        with contextlib.suppress(EOFError):
            while (task := pipe.recv()) is not None:
                pipe.send(desk.do(task))
        desk.close()


def _end_with_parent() -> None:
    """End this process when its parent ends, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Desk:
    """What a worker process keeps between tasks.

    Args:
        start: what the run is.
        prefix: how the names of the shared memory that it makes begin; a number follows.
    """

    def __init__(self, start: Start, prefix: str) -> None:
        import torch

        from fedsim.flower.client_app import make_client_app
        from fedsim.flower.workplace import Workplace
        from fedsim.scenario import from_data, open_population

        scenario = from_data(start.scenario, "worker")
        self._population = open_population(scenario)
        self._app = make_client_app(
            Workplace(scenario, self._population, torch.device(start.device))
        )
        self._num_sites = start.num_sites
        self._attached = Attached()
        self._model: tuple[str, RecordDict] = ("", RecordDict())
        self._out: Made | None = None
        self._prefix, self._num_made = prefix, 0

    def do(self, task: Task) -> Answer:
        """Answer one task."""
        begun = time.perf_counter()
        try:
            self._take(task.site, task.examples)
            reply = self._app(self._message(task), self._context(task.site))
            packed, parts = shared.pack(reply.content)
            block = self._written(packed.num_bytes, parts)
        except Exception as error:  # whatever a client does; the main process raises it again
            return Answer(task.number, None, "", f"{type(error).__name__}: {error}", 0.0)
        return Answer(task.number, packed, block, "", time.perf_counter() - begun)

    def _take(self, site: int, examples: Mapping[Split, Layout]) -> None:
        """Put shared examples where the client looks for them."""
        for split, layout in examples.items():
            self._population.provide(site, split, *self._attached.arrays(layout))

    def _message(self, task: Task) -> Message:
        """Return the message; one global model is unpacked once for all sites."""
        if self._model[0] != task.block:
            memory = self._attached.memory(task.block)
            self._model = task.block, shared.unpack(task.packed, memory)
            self._attached.forget(task.block)
        return Message(self._model[1], SERVER_NODE + 1 + task.site, task.type)

    def _context(self, site: int) -> Context:
        config: dict[str, Any] = {"partition-id": site, "num-partitions": self._num_sites}
        return Context(0, SERVER_NODE + 1 + site, config, RecordDict(), {})

    def _written(self, num_bytes: int, parts: Sequence[bytes]) -> str:
        """Write the arrays of a reply and return the name of their block."""
        if self._out is None or self._out.memory.size < num_bytes:
            if self._out is not None:
                self._out.close()
            self._num_made += 1
            self._out = Made(num_bytes, f"{self._prefix}-{self._num_made}")
        shared.fill(self._out.buffer, parts)
        return str(self._out.memory.name)

    def close(self) -> None:
        """Give shared memory back."""
        if self._out is not None:
            self._out.close()
        self._attached.close()
