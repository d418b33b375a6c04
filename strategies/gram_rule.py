"""What the rules on a Gram matrix are: coefficients, layer by layer or for the whole model.

With the client updates as the rows of G, K = G G^T and the shares p of the sites, such a rule is a
function `coefficients(K, p) -> c`, and its aggregate is G^T c. Gram matrices add: the sum of those
of all layers is that of the whole model, so papers that speak of one vector per site are followed
without ever forming it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from strategies.base import NOTHING, State, Strategy

if TYPE_CHECKING:
    from torch import Tensor


class GramRule(Strategy):
    """A rule whose aggregate is G^T c, with c a function of K and p; it keeps no state.

    Of one layer each stack is read once; of the whole model twice, first for K, then to combine, so
    that no more than one layer is ever held.
    """

    weights: Literal["examples", "uniform"] = Field(
        default="examples", description="what a site counts as: its examples, or all the same"
    )
    per: Literal["model", "layer"] = Field(
        default="model", description="one vector of coefficients for all layers, or one for each"
    )

    @abstractmethod
    def coefficients(self, K: Tensor, p: Tensor) -> Tensor:
        """Return c, (site,), float64.

        Args:
            K: inner products of the updates, G G^T, (site, site), float64, on the CPU.
            p: how much each site counts, (site,), float64, non-negative with sum one.
        """

    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return G^T c for every parameter, and the state as it was."""
        from strategies.gram import combine, gram, shares

        p = shares(weights, self.weights)
        if self.per == "layer":
            return {name: self._layer(updates[name], p) for name in updates}, state
        K = p.new_zeros(len(p), len(p))
        for name in updates:
            K += gram(updates[name])
        c = self.coefficients(K, p)
        return {name: combine(updates[name], c) for name in updates}, state

    def _layer(self, stack: Tensor, p: Tensor) -> Tensor:
        """Return the aggregate of one layer, (*shape), from its stack, (site, *shape)."""
        from strategies.gram import combine, gram

        return combine(stack, self.coefficients(gram(stack), p))
