"""What a run may spend, and who decides before each release whether it may happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fedsim.plugins import Part

if TYPE_CHECKING:
    from fedsim.privacy.events import History


class Budget(Part):
    """The epsilon that no site may spend more than, nor any patient at several sites."""

    epsilon: float = Field(
        gt=0,
        le=1e6,
        description="at the section's delta; for each site, and for patients at several together",
    )
    on_budget: Literal["stop_site", "stop_run"] = Field(
        default="stop_site",
        description="before the round that would overspend it: that site trains no more (all of "
        "the round's sites where a patient is at several), or nobody",
    )


class Guard:
    """Knows for each payer until which round its budget has room for what is planned.

    A payer is a site, or whoever is at several of them. The round is found once, and again when it
    is over: by then less may have been released than was planned.

    Args:
        epsilon: of the budget.
        delta: at which it holds.
    """

    def __init__(self, epsilon: float, delta: float) -> None:
        self._epsilon, self._delta = epsilon, delta
        self._until: dict[Hashable, int] = {}

    def affords(
        self,
        payer: Hashable,
        round: int,
        spent: History,
        planned: Callable[[], Mapping[int, History]],
    ) -> bool:
        """Return whether a payer can pay for a round.

        Args:
            payer: who.
            round: in which something is to be released.
            spent: all that was released before.
            planned: returns what would be released in this round and every later one, ascending,
                if there is anything in a round; the same whenever it is asked, or less.
        """
        if round > self._until.get(payer, 0):
            coming = planned()
            num = self._fitting(spent, list(coming.values()))
            self._until[payer] = list(coming)[num - 1] if num else 0
        return round <= self._until[payer]

    def _fitting(self, spent: History, planned: Sequence[History]) -> int:
        """Return how many of the planned rounds fit into what is left.

        Decided at the coarse interval, and at the fine one where that refuses.
        """
        from fedsim.privacy.accounting import COARSE, FINE, epsilon

        def fits(num: int, interval: float = FINE) -> bool:
            after = Counter(spent)
            for released in planned[:num]:
                after.update(released)
            return epsilon(after, self._delta, interval) <= self._epsilon

        most = len(planned)
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
