"""What happens in a worker process: one message after the other, until told to end.

A worker trains with one thread, as the in-process engine does, so a site computes the same bits
wherever it runs. Images lie in shared memory, the global model comes and local models go back
through it; small values go through a pipe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from flwr.app import Message, RecordDict

from fedsim.engines import shared
from fedsim.engines.allocator import freed_memory_kept
from fedsim.engines.inline import flower_identity, make_context, repeatable
from fedsim.engines.leash import end_with_parent
from fedsim.engines.shared import Attached, Made, Packed
from fedsim.engines.shared_examples import Layout, SharedExamples
from fedsim.flower.client_app import make_client_app
from fedsim.flower.client_memory import at
from fedsim.flower.wire import Buffer
from fedsim.flower.workplace import Workplace
from fedsim.scenario import from_data, open_population


@dataclass(frozen=True)
class Start:
    """What a worker needs to begin.

    Args:
        scenario: resolved, plain data.
        device: torch's name of where to compute.
        examples: shared memory with the examples of all sites.
        memory: folder of what sites keep from round to round, if they keep anything.
    """

    scenario: dict[str, Any]
    device: str
    examples: str
    memory: Path | None = None


@dataclass(frozen=True)
class Task:
    """One message for one site.

    Args:
        number: counts all tasks of a grid.
        node: that answers.
        type: of the message.
        packed: its content.
        block: shared memory with the arrays of its content.
    """

    number: int
    node: int
    type: str
    packed: Packed
    block: str


@dataclass(frozen=True)
class Answer:
    """What a worker made of a task.

    Args:
        packed: content of the reply, or None if the client failed.
        block: shared memory with its arrays.
        error: what went wrong, if the client failed.
        seconds: that it took.
    """

    packed: Packed | None
    block: str
    error: str
    seconds: float


def work(pipe: Connection[Any, Any], start: Start, prefix: str) -> None:
    """Answer tasks until told to end, or until the main process is gone.

    Args:
        pipe: to the main process; tasks come, answers go.
        start: what the run is.
        prefix: of the names of the shared memory that is made here.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    end_with_parent()
    with repeatable(), freed_memory_kept(), flower_identity():
        desk = _Desk(start, prefix)
        with contextlib.suppress(EOFError):
            while (task := pipe.recv()) is not None:
                pipe.send(desk.do(task))
        desk.close()
    os._exit(0)  # at once: to take torch apart, which Python does otherwise, takes half a second


class _Desk:
    """What a worker process keeps between tasks.

    Args:
        start: what the run is.
        prefix: how the names of the shared memory that it makes begin; a number follows.
    """

    def __init__(self, start: Start, prefix: str) -> None:
        scenario = from_data(start.scenario, "worker")
        population = open_population(scenario)
        self._attached = Attached()
        layout = Layout(population, scenario.data.source.facts().image_shape)
        block = start.examples
        kept = SharedExamples(layout, self._attached.memory(block), partial(shared.take, block))
        device = torch.device(start.device)
        workplace = Workplace(scenario, replace(population, kept=kept), device)
        self._app = make_client_app(workplace, at(start.memory))
        self._num_sites = len(population)
        self._model: tuple[str, RecordDict] = ("", RecordDict())
        self._outs: list[Made] = []
        self._prefix, self._num_made = prefix, 0

    def do(self, task: Task) -> Answer:
        """Answer one task."""
        begun = time.perf_counter()
        try:
            reply = self._app(self._message(task), make_context(task.node, self._num_sites))
            packed, parts = shared.pack(reply.content)
            block = self._written(packed.num_bytes, parts)
        except Exception as error:  # whatever a client does; the main process raises it again
            return Answer(None, "", f"{type(error).__name__}: {error}", 0.0)
        return Answer(packed, block, "", time.perf_counter() - begun)

    def _message(self, task: Task) -> Message:
        """Return the message; one global model is unpacked once for all sites that get it."""
        if self._model[0] != task.block:
            memory = self._attached.memory(task.block)
            self._model = task.block, shared.unpack(task.packed, memory)
            self._attached.forget(task.block)
        return Message(shared.with_values(self._model[1], task.packed), task.node, task.type)

    def _written(self, num_bytes: int, parts: Sequence[Buffer]) -> str:
        """Write the arrays of a reply and return the name of their block.

        Two blocks take turns: the reply before this one may still be read.
        """
        out = self._outs.pop(0) if len(self._outs) == 2 else None
        if out is None or out.memory.size < num_bytes:
            if out is not None:
                out.close()
            self._num_made += 1
            out = Made(num_bytes, f"{self._prefix}-{self._num_made}").take()
        self._outs.append(out)
        shared.fill(out.buffer, parts)
        return str(out.memory.name)

    def close(self) -> None:
        """Give shared memory back."""
        for out in self._outs:
            out.close()
        self._attached.close()
