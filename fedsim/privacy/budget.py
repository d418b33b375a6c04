"""What a run may spend, and who decides before each release whether it may happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fedsim.plugins import Part

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

    from fedsim.privacy.events import History


class Budget(Part):
    """The epsilon that no site may spend more than."""

    epsilon: float = Field(gt=0, le=1e6, description="at the section's delta, for every site")
    on_budget: Literal["stop_site", "stop_run"] = Field(
        default="stop_site",
        description="before the round that would overspend it: that site trains no more, or nobody",
    )


@dataclass
class _Room:
    """How many more events of a kind fit into what is left."""

    event: DpEvent
    num: int


class Guard:
    """Knows for each site how many more releases its budget has room for.

    That is found once, and counted down while a site goes on to release the same.

    Args:
        epsilon: of the budget.
        delta: at which it holds.
    """

    def __init__(self, epsilon: float, delta: float) -> None:
        self._epsilon, self._delta = epsilon, delta
        self._rooms: dict[str, _Room] = {}

    def affords(self, site: str, spent: History, event: DpEvent, most: int) -> bool:
        """Return whether a site may release something once more.

        Args:
            site: its name.
            spent: all that it released before.
            event: what it would release.
            most: how often it could do so until the end of the run, this time included.
        """
        room = self._rooms.get(site)
        if room is None or room.event != event:
            room = self._rooms[site] = _Room(event, self._fitting(spent, event, most))
        return room.num > 0

    def charge(self, site: str) -> None:
        """Note that a site releases what it was found to afford."""
        self._rooms[site].num -= 1

    def _fitting(self, spent: History, event: DpEvent, most: int) -> int:
        """Return how often an event fits into what is left, `most` times at most.

        Decided at the coarse interval, and at the fine one where that refuses.
        """
        from fedsim.privacy.accounting import COARSE, FINE, epsilon
        from fedsim.privacy.events import history

        def fits(num: int, interval: float = FINE) -> bool:
            after = history([*spent.items(), (event, num)])
            return epsilon(after, self._delta, interval) <= self._epsilon

        num = largest(lambda num: fits(num, COARSE), 0, most)
        return num if num == most or not fits(num + 1) else largest(fits, num + 1, most)


def largest(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest number up to `high` of which a condition holds.

    Args:
        holds: for all numbers up to some, and for none above it.
        low: a number of which it is known to hold.
        high: where to stop.

    >>> largest(lambda num: num * num <= 50, 0, 100)
    7
    """
    if low == high or holds(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
