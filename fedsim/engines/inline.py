"""The in-process engine: Flower's messages and ClientApp in this process, one site after another.

Two things here lean on Flower 1.42 itself, and `tests/engines/test_inline.py` notices when either
changes: messages read a process-wide task identity, and a Grid has the members implemented below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE = 1
CLIENT_APP_RAISED_EXCEPTION = 2
"""`flwr.common.constant.ErrorCode` has it; a test compares."""


class InlineGrid(Grid):
    """A Grid whose nodes are the sites 0 .. num_sites - 1, all in this process.

    Args:
        app: acts for every site.
        num_sites: how many nodes.

    Attributes:
        nodes: of the sites, in site order.
    """

    def __init__(self, app: ClientApp, num_sites: int) -> None:
        self._app = app
        self.nodes = range(SERVER_NODE + 1, SERVER_NODE + 1 + num_sites)
        self._contexts: dict[int, Context] = {}
        self._waiting: dict[str, Message] = {}
        self._num_pushed = 0
        self._run = Run.create_empty(0)

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes in site order."""
        return self.nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep messages until their replies are pulled."""
        ids = []
        for message in messages:
            self._num_pushed += 1
            ids.append(str(self._num_pushed))
            self._waiting[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the clients of these messages; yield their replies in the same order."""
        return self._answers([self._waiting.pop(message_id) for message_id in message_ids])

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Yield the replies in the order of the messages; the timeout does not apply."""
        return self._answers(list(messages))

    def _answers(self, messages: Sequence[Message]) -> Iterator[Message]:
        """Run the clients of these messages and yield their replies in order."""
        return map(self._answer, messages)

    def _answer(self, message: Message) -> Message:
        """Return a client's reply; what it wants to find again is kept until its next message."""
        node = message.metadata.dst_node_id
        context = self._contexts.get(node) or make_context(node, len(self.nodes))
        try:
            reply = self._app(message, context)
        except Exception as error:  # whatever a client does; the server decides what follows
            reply = failure(message, f"{type(error).__name__}: {error}")
        if context.state:
            self._contexts[node] = context
        return reply


def site_of(node: int) -> int:
    """Return which site a node is."""
    return node - SERVER_NODE - 1


def make_context(node: int, num_sites: int) -> Context:
    """Return what Flower tells a client of itself, at its first message."""
    config: UserConfig = {"partition-id": site_of(node), "num-partitions": num_sites}
    return Context(0, node, config, RecordDict(), {})


def failure(message: Message, reason: str) -> Message:
    """Return the reply that says that a client failed, as Flower's own runtimes give it."""
    return Message(Error(CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


@contextmanager
def flower_identity() -> Iterator[None]:
    """Give this process the identity of a Flower server, and take it back afterwards."""
    before = TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id
    TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = 0, 0, SERVER_NODE
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


@contextmanager
def repeatable() -> Iterator[None]:
    """Compute so that bits repeat, and put torch's settings back afterwards.

    One intra-op thread on the CPU, float32 products in float32 (no TF32, no bfloat16), no autocast
    of the caller's, and on a GPU the deterministic algorithms of cuDNN.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    cudnn = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    try:
        with (
            cudnn,
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
