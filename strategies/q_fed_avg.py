"""q-FedAvg: sites with a high loss count more (q-fair federated learning).

Source: Li, Sanjabi, Beirami and Smith, ICLR 2020 (arXiv 1905.10497), algorithm 2. It minimises
sum_k p_k F_k^(q+1) / (q+1), with F_k the loss of site k. With the updates g_k (local minus global),
an estimate L = 1/learning_rate of the Lipschitz constant and the losses at the global model,

    Delta_k = L F_k^q g_k,    h_k = q F_k^(q-1) L^2 ||g_k||^2 + L F_k^q,

and the aggregate is sum_k p_k Delta_k / sum_k p_k h_k. The norms are over the whole model. With
q = 0 it is the weighted mean.

Differences from the paper: it draws sites with probability p_k and then counts all alike; here
those that answered count as their shares, or all alike with `weights: uniform`. F_k is the mean
cross-entropy of the received model over the site's training examples (in a regression the mean
squared error), in evaluation mode, whatever the site's objective. L is the same in every round:
where the sites' learning rate has a schedule, it is one over the full rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import NOTHING, State, Strategy

if TYPE_CHECKING:
    from torch import Tensor

START_LOSS = "start-loss"
LEAST_LOSS = 1e-10
"""Added to the losses, as in the released code: F^(q-1) is infinite at zero."""


class QFedAvg(Strategy):
    """Weigh sites by a power of their loss, and shorten the step as the updates grow.

    Keeps no state. The rule is not free of scale: long updates make the estimated curvature large,
    so that even a single site's update is shortened.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[1.0], [1.0]])}
    >>> losses = {"start-loss": torch.tensor([0.5, 2.0], dtype=torch.float64)}
    >>> QFedAvg(q=1.0).aggregate(updates, torch.ones(2), {}, losses)[0]["bias"]
    tensor([0.0588])
    """

    kind: Literal["q_fed_avg"] = "q_fed_avg"
    q: float = Field(
        default=0.1, ge=0, allow_inf_nan=False, description="how much fairness counts; 0 for none"
    )
    learning_rate: float = Field(
        default=0.05, gt=0, allow_inf_nan=False, description="that of the sites, 1/L"
    )
    weights: Literal["examples", "uniform"] = Field(
        default="examples", description="what a site counts as: its examples, or all the same"
    )

    reference: ClassVar[str] = """@inproceedings{li2020fair,
  title = {Fair Resource Allocation in Federated Learning},
  author = {Li, Tian and Sanjabi, Maziar and Beirami, Ahmad and Smith, Virginia},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2020},
}"""

    @property
    def reports(self) -> tuple[str, ...]:
        """The loss of the received model at each site."""
        return (START_LOSS,)

    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return sum_k p_k Delta_k / sum_k p_k h_k for every parameter, and the state as it was."""
        from strategies.gram import combine, shares
        from strategies.stack import squares

        p, L = shares(weights, self.weights), 1 / self.learning_rate
        F = reported[START_LOSS].to(p) + LEAST_LOSS
        sums, norms = {}, p.new_zeros(len(p))
        for name in updates:
            stack = updates[name]
            sums[name] = combine(stack, p * L * F**self.q)
            norms += squares(stack)
        h = p @ (self.q * F ** (self.q - 1) * L**2 * norms + L * F**self.q)
        return {name: value / float(h) for name, value in sums.items()}, state
