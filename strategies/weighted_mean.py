"""Weighted mean of the client updates (FedAvg, server half).

Source: McMahan et al., AISTATS 2017, algorithm 1. Differences from the paper: client updates are
averaged instead of client models, which is the same model; sums are taken in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import Mean

if TYPE_CHECKING:
    from torch import Tensor


class WeightedMean(Mean):
    """Each site counts as its examples do, or all count the same.

    Keeps no state. The aggregate of one site is its update, bit for bit. A server may add the
    updates as they arrive.

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

    def coefficient(self, weight: float, reported: Mapping[str, float]) -> float:
        """Return n_k, or 1."""
        return weight if self.weights == "examples" else 1.0

    def divisor(self, weights: Tensor, reported: Mapping[str, Tensor]) -> float:
        """Return the sum of all n_k, or the number of sites."""
        return float(weights.sum()) if self.weights == "examples" else float(len(weights))
