"""The part of a grid that a strategy sees in one round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid


class CohortGrid(Grid):
    """A grid that shows a strategy this round's nodes alone, so that the scenario draws the cohort.

    Args:
        grid: does everything else.
        nodes: of the round.
    """

    def __init__(self, grid: Grid, nodes: list[int]) -> None:
        self._grid, self._nodes = grid, nodes

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes of the round."""
        return list(self._nodes)

    @property
    def run(self) -> Any:
        """The grid's run."""
        return self._grid.run

    def set_run(self, run: Any) -> None:
        """Set the grid's run."""
        self._grid.set_run(run)

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Return a message of the grid."""
        return self._grid.create_message(*args, **kwargs)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push through the grid."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull through the grid."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send and receive through the grid."""
        return self._grid.send_and_receive(messages, timeout=timeout)
