"""Normalised averaging for sites that do unequal work (FedNova, server half).

Source: Wang, Liu, Liang, Joshi and Poor, NeurIPS 2020. A site that takes more steps moves further
and pulls the mean of the updates to its own optimum. With shares p_k, updates g_k and effective
steps tau_k the aggregate is

    (sum_k p_k tau_k) * sum_k p_k g_k / tau_k

For local SGD tau_k is the number of steps; with momentum rho each step also moves along earlier
gradients, and tau_k is the 1-norm of the weights that the gradients get in all,
(s - rho (1 - rho^s) / (1 - rho)) / (1 - rho) for s steps. With equal steps it is the weighted mean.
The paper has no rule for adaptive local optimisers; their steps are counted as those of SGD.
Differences from the paper: a proximal term counts as part of the gradient, where the paper takes
it for a weight on gradients, so that tau_k is (1 - (1 - eta mu)^s) / (eta mu).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import Mean

if TYPE_CHECKING:
    from torch import Tensor

NUM_STEPS = "num-steps"


class FedNova(Mean):
    """Each site counts as its examples do, per step that it took.

    Keeps no state. A server may add the updates as they arrive.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[1.0], [8.0]])}
    >>> steps = {"num-steps": torch.tensor([1.0, 4.0], dtype=torch.float64)}
    >>> FedNova().aggregate(updates, torch.tensor([1.0, 1.0]), {}, steps)[0]["bias"]
    tensor([3.7500])
    """

    kind: Literal["fed_nova"] = "fed_nova"
    momentum: float = Field(default=0.0, ge=0, lt=1, description="that of the local optimiser")

    reference: ClassVar[str] = """@inproceedings{wang2020tackling,
  title = {Tackling the Objective Inconsistency Problem in Heterogeneous Federated
           Optimization},
  author = {Wang, Jianyu and Liu, Qinghua and Liang, Hao and Joshi, Gauri and Poor, H. Vincent},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020},
}"""

    @property
    def reports(self) -> tuple[str, ...]:
        """The optimiser steps of each site."""
        return (NUM_STEPS,)

    def effective_steps(self, num_steps: float) -> float:
        """Return tau_k."""
        rho = self.momentum
        return float((num_steps - rho * (1 - rho**num_steps) / (1 - rho)) / (1 - rho))

    def coefficient(self, weight: float, reported: Mapping[str, float]) -> float:
        """Return n_k / tau_k."""
        return weight / self.effective_steps(reported[NUM_STEPS])

    def divisor(self, weights: Tensor, reported: Mapping[str, Tensor]) -> float:
        """Return n^2 / sum_k n_k tau_k, with n the sum of all n_k."""
        steps = map(self.effective_steps, reported[NUM_STEPS].tolist())
        moved = sum(n * tau for n, tau in zip(weights.tolist(), steps, strict=True))
        return float(weights.sum() ** 2 / moved)
