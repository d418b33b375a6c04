"""What the rules are that look at one coordinate of all updates at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from strategies.base import NOTHING, State, Strategy

if TYPE_CHECKING:
    from torch import Tensor


class CoordinateWise(Strategy):
    """A rule that sees each coordinate by itself, all sites alike; it keeps no state.

    Stacks go through the rule in chunks of columns, widened to float64 and sorted.
    """

    @abstractmethod
    def of_sorted(self, columns: Tensor) -> Tensor:
        """Return one number per coordinate: (element,), float64.

        Args:
            columns: (site, element), float64, ascending along the sites.
        """

    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return the rule's number for every coordinate, and the state as it was."""
        from strategies.stack import over_sites

        def rule(columns: Tensor) -> Tensor:
            return self.of_sorted(columns.sort(dim=0).values)

        return {name: over_sites(updates[name], rule) for name in updates}, state
