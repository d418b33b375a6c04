"""Clients in processes of their own: the same messages and ClientApp, on several cores.

Worker processes live as long as the run; `fedsim.engines.worker_process` is what happens in them.
Sites that took longest the last time go first.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from fedsim.engines import nursery, shared
from fedsim.engines.inline import InlineGrid, failure, site_of
from fedsim.engines.shared import Attached, Blocks, Made, Packed
from fedsim.engines.shared_examples import Layout
from fedsim.engines.worker_process import Answer, Start, Task, work
from fedsim.flower import wire

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.scenario import Scenario

log = logging.getLogger("fedsim")

WAITING_BYTES = 2**28
"""Of replies that may wait for those of sites before them; two for each worker always may."""
Key = tuple[int, ...]  # of messages with the same arrays
GRACE_S = 5.0
"""Seconds that a worker gets to end by itself."""


class WorkerGrid(InlineGrid):
    """A grid whose nodes are spread over worker processes.

    Args:
        scenario: of the run.
        population: its sites.
        devices: torch's name of the device of each worker.
        memory: folder of what sites keep from round to round, if they keep anything.

    Raises:
        RunError: if shared memory has no room for the examples of all sites.
    """

    def __init__(
        self,
        scenario: Scenario,
        population: Population,
        devices: Sequence[str],
        memory: Path | None = None,
    ) -> None:
        super().__init__(ClientApp(), len(population))
        self._population = population
        self._seconds: dict[tuple[str, int], float] = {}
        self._pace: dict[str, float] = {}
        self._num_tasks = 0
        self._blocks = Blocks()
        self._workers: list[_Worker] = []
        layout = Layout(population, scenario.data.source.facts().image_shape)
        shared.check_room(layout.num_bytes)
        try:
            data, block = scenario.resolved(), self._blocks.make(layout.num_bytes).memory.name
            shared.take(block, 0, len(layout.places))
            for device in devices:
                self._workers.append(_Worker(Start(data, device, block, memory)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all workers and give shared memory back."""
        for worker in self._workers:
            worker.ask_to_end()
        for worker in self._workers:
            worker.end()
        self._blocks.close()

    def _answers(self, messages: Sequence[Message]) -> Iterator[Message]:
        """Run the clients of these messages in workers and yield their replies in order.

        At any time the replies to a window of messages at most are on their way or wait for those
        before them; inside the window the longest go first.
        """
        longest_first = sorted(range(len(messages)), key=lambda p: -self._expected(messages[p]))
        with contextlib.closing(_Exchange(messages, self._blocks, longest_first)) as exchange:
            for due in range(len(messages)):
                self._hand_out(exchange, due)
                while due not in exchange.replies:
                    for worker in _ready(self._workers):
                        task, answer = worker.answer()
                        if answer is None:
                            self._replace(exchange, worker, task)
                        self._hand_out(exchange, due)  # it works on while its answer is read
                        if answer is not None:
                            self._collect(exchange, worker, task, answer)
                yield exchange.replies.pop(due)

    def _hand_out(self, exchange: _Exchange, due: int) -> None:
        """Give every idle worker the longest task of the window that begins with `due`."""
        for worker in self._workers:
            end = due + max(2 * len(self._workers), exchange.num_affordable)
            place = next((place for place in exchange.waiting if place < end), None)
            if place is None:
                return
            if worker.task is None:
                task = self._task(exchange, place)
                exchange.begin(place, task.number)
                worker.give(task)

    def _task(self, exchange: _Exchange, place: int) -> Task:
        message = exchange.messages[place]
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        packed, block = exchange.content(place)
        self._num_tasks += 1
        return Task(self._num_tasks, node, kind, packed, block)

    def _replace(self, exchange: _Exchange, worker: _Worker, task: Task) -> None:
        """Start another worker in place of one whose process died over a task."""
        self._workers[self._workers.index(worker)] = _Worker(worker.start)
        log.warning("%s died (%s)", self._named(task), worker.last_words())
        exchange.died(task.number, worker.last_words())

    def _collect(self, exchange: _Exchange, worker: _Worker, task: Task, answer: Answer) -> None:
        """Note what a worker answered."""
        if answer.packed is None:
            exchange.fail(task.number, answer.error)
            return
        size = self._size(task.node)
        if self._population.keeps(site_of(task.node)):
            self._seconds[task.type, task.node] = answer.seconds
        self._pace[task.type] = answer.seconds / max(1, size)
        content = shared.unpack(answer.packed, worker.memory(answer.block))
        exchange.reply(task.number, content)

    def _expected(self, message: Message) -> float:
        """Return the seconds that a message took the last time, or an estimate where it is new."""
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        estimate = self._size(node) * self._pace.get(kind, 1.0)
        return self._seconds.get((kind, node), estimate)

    def _size(self, node: int) -> int:
        """Return a site's training examples; 1 where looking would be to draw them."""
        site = site_of(node)
        return len(self._population.indices[site]["train"]) if self._population.keeps(site) else 1

    def _named(self, task: Task) -> str:
        config = task.packed.configs.get(wire.CONFIG, {})
        name = self._population.names[site_of(task.node)]
        return f"round {config.get(wire.ROUND, 0)}: the process of {name} ({task.type})"


class _Exchange:
    """Messages until their replies are there.

    Args:
        messages: in the order of their replies.
        blocks: make shared memory for what they hold.
        waiting: their places, in the order in which workers are to get them.

    Attributes:
        waiting: places of messages that no worker has.
        replies: by place, those that are there and not yet taken.
        num_affordable: how many replies of the size of the first message may wait at a time.
    """

    def __init__(self, messages: Sequence[Message], blocks: Blocks, waiting: list[int]) -> None:
        self.messages, self._blocks, self.waiting = messages, blocks, waiting
        self.replies: dict[int, Message] = {}
        self._running: dict[int, int] = {}
        self._killed: set[int] = set()
        self._contents: dict[Key, tuple[Packed, Made]] = {}
        self._num_due = Counter(map(_key, messages))
        num_bytes = max(map(wire.num_bytes, messages[:1]), default=1)
        self.num_affordable = WAITING_BYTES // max(1, num_bytes)

    def begin(self, place: int, number: int) -> None:
        """Note that a worker has a message as its task of this number."""
        self.waiting.remove(place)
        self._running[number] = place

    def content(self, place: int) -> tuple[Packed, str]:
        """Return a message's content and the block of its arrays, one for all with the same."""
        content, key = self.messages[place].content, _key(self.messages[place])
        if key not in self._contents:
            packed, parts = shared.pack(content)
            made = self._blocks.make(packed.num_bytes).take()
            shared.fill(made.buffer, parts)
            self._contents[key] = packed, made
        packed, made = self._contents[key]
        return shared.repacked(packed, content), made.memory.name

    def reply(self, number: int, content: RecordDict) -> None:
        """Note what a task gave; a task of other messages, whose replies nobody wants, is none."""
        place = self._running.pop(number, None)
        if place is not None:
            self._settle(place, Message(content, reply_to=self.messages[place]))

    def fail(self, number: int, reason: str) -> None:
        """Note that a task failed."""
        place = self._running.pop(number, None)
        if place is not None:
            self._settle(place, failure(self.messages[place], reason))

    def died(self, number: int, last_words: str) -> None:
        """Note that a process died over a task: the first time its message waits again."""
        place = self._running.get(number)
        if place in self._killed:
            more = f"its process died twice ({last_words}); it may need more memory than there is"
            self.fail(number, more)
        elif place is not None:
            self._killed.add(place)
            self.waiting.insert(0, self._running.pop(number))

    def _settle(self, place: int, reply: Message) -> None:
        """Keep a reply, and give back a content that no message needs any more."""
        self.replies[place] = reply
        key = _key(self.messages[place])
        self._num_due[key] -= 1
        if not self._num_due[key]:
            _, made = self._contents.pop(key)
            self._blocks.give_back(made)

    def close(self) -> None:
        """Give shared memory back."""
        for _, made in self._contents.values():
            self._blocks.give_back(made)


def _key(message: Message) -> Key:
    """Return what messages with the same arrays have in common."""
    return tuple(map(id, message.content.array_records.values()))


class _Worker:
    """One worker process, as the main process sees it."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self._pipe, theirs = multiprocessing.Pipe()
        self._prefix = shared.new_name()
        self._process = nursery.start(start.device, work, theirs, start, self._prefix)
        theirs.close()
        self._attached = Attached()
        self._blocks: list[str] = []
        self._num_made = 0
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

    def answer(self) -> tuple[Task, Answer | None]:
        """Return the task and what came of it, None if the process died over it."""
        task, self.task = self.task, None
        assert task is not None, "idle"
        try:
            return task, self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self.end()
            return task, None

    def memory(self, block: str) -> memoryview:
        """Return the bytes that the worker wrote; stays attached to the two blocks used last."""
        if block in self._blocks:
            self._blocks.remove(block)
        elif len(self._blocks) == 2:
            self._attached.forget(self._blocks.pop(0))
        self._blocks.append(block)
        self._num_made = max(self._num_made, int(block.rpartition("-")[2]))
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
        for number in range(1, self._num_made + 3):  # what a killed process could not give back
            shared.unlink(f"{self._prefix}-{number}")


def _ready(workers: Iterable[_Worker]) -> Iterator[_Worker]:
    """Yield the workers whose answer is there, or whose process ended; waits for one at least."""
    busy = {worker.pipe: worker for worker in workers if worker.task is not None}
    for pipe in wait(list(busy)):
        yield busy[pipe]  # type: ignore[index]
