"""A grid of one of Flower's runtimes, as the server of a run needs it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid

from fedsim.errors import RunError
from fedsim.flower import wire
from fedsim.flower.cohort_grid import CohortGrid

POLL_S = 0.1
"""Seconds between looks for replies."""


class RuntimeGrid(CohortGrid):
    """Sends the scenario along, and gives out replies as they arrive.

    Flower's own `send_and_receive` looks every three seconds and holds all replies at once.

    Args:
        grid: of the runtime.
        nodes: the sites', in site order.
        task: what every client needs to know.
    """

    def __init__(self, grid: Grid, nodes: list[int], task: ConfigRecord) -> None:
        super().__init__(grid, nodes)
        self.nodes = nodes
        self._task = task

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yield replies in the order of their arrival; the timeout does not apply.

        Raises:
            RunError: if a message cannot be sent.
        """
        return exchange(self._grid, messages, self._task)


def exchange(grid: Grid, messages: Iterable[Message], task: ConfigRecord) -> Iterator[Message]:
    """Send messages with the task and yield replies in the order of their arrival.

    Raises:
        RunError: if a message cannot be sent.
    """
    messages = list(messages)
    for message in messages:
        message.content[wire.TASK] = task
    ids = list(grid.push_messages(messages))
    if len(ids) < len(messages) or None in ids:
        raise RunError("Flower did not take every message; its log says why")
    waiting = dict(zip(ids, messages, strict=True))
    while waiting:
        for reply in grid.pull_messages(set(waiting)):
            message = waiting.pop(reply.metadata.reply_to_message_id)
            # what Flower says in place of a site bears the server's address
            yield Message(reply.error, reply_to=message) if reply.has_error() else reply
        if waiting:
            time.sleep(POLL_S)
