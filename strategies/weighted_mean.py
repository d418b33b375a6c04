"""Weighted mean of the client updates (FedAvg, server half).

Source: McMahan et al., AISTATS 2017, algorithm 1. Differences from the paper: client updates are
averaged instead of client models, which is the same model; sums are taken in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import State, Strategy

if TYPE_CHECKING:
    from torch import Tensor


class WeightedMean(Strategy):
    """Each site counts as its examples do, or all count the same.

    Keeps no state. The aggregate of one site is its update, bit for bit.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[1.0, 0.0], [4.0, 6.0]])}
    >>> aggregate, state = WeightedMean().aggregate(updates, torch.tensor([200.0, 100.0]), {})
    >>> aggregate["bias"]
    tensor([2., 2.])
    """

    kind: Literal["weighted_mean"] = "weighted_mean"
    weights: Literal["examples", "uniform"] = Field(
        default="examples", description="what a site counts as: its examples, or all the same"
    )

    reference: ClassVar[str] = """@inproceedings{mcmahan2017communication,
  title = {Communication-Efficient Learning of Deep Networks from Decentralized Data},
  author = {McMahan, H. Brendan and Moore, Eider and Ramage, Daniel and Hampson, Seth
            and {Ag{\\"u}era y Arcas}, Blaise},
  booktitle = {Artificial Intelligence and Statistics (AISTATS)},
  year = {2017},
}"""

    def init(self, parameters: Mapping[str, Tensor]) -> State:
        """Return an empty state."""
        return {}

    def aggregate(
        self, updates: Mapping[str, Tensor], weights: Tensor, state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return sum_k p_k g_k for every parameter, and the state as it was."""
        from strategies.gram import combine, shares

        p = shares(weights, self.weights)
        return {name: combine(updates[name], p) for name in updates}, state
