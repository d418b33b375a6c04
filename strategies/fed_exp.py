"""FedExP: lengthen the mean update by how much the sites disagree.

Source: Jhunjhunwala, Wang and Joshi, ICLR 2023 (arXiv 2301.09604). With updates g_k, shares p_k and
mean g = sum_k p_k g_k, all over the whole model, the aggregate is eta_g g with

    eta_g = max(1, sum_k p_k ||g_k||^2 / (2 (||g||^2 + epsilon)))

Differences from the paper: sites can count as their examples do, which is the default, where the
paper has p_k = 1/m (`weights: uniform`). The paper reports the average of the last two iterates, as
long steps make the last one swing; here the global model is the last one, and the scenario's rule
for the best round chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import NOTHING, State, Strategy

if TYPE_CHECKING:
    from torch import Tensor


class FedExP(Strategy):
    """The weighted mean, extrapolated where the updates of the sites are far apart.

    Keeps no state. `epsilon` is in units of a squared update, so the rule is not free of scale.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])}
    >>> rule = FedExP(epsilon=1e-9)
    >>> rule.aggregate(updates, torch.ones(3), {})[0]["bias"]
    tensor([2.0000, 2.0000, 2.0000])
    """

    kind: Literal["fed_exp"] = "fed_exp"
    epsilon: float = Field(
        default=1e-3,
        gt=0,
        allow_inf_nan=False,
        description="added to the squared norm of the mean, so that the step is bounded",
    )
    weights: Literal["examples", "uniform"] = Field(
        default="examples",
        description="what a site counts as: its examples, or all the same (paper)",
    )

    reference: ClassVar[str] = """@inproceedings{jhunjhunwala2023fedexp,
  title = {{FedExP}: Speeding Up Federated Averaging via Extrapolation},
  author = {Jhunjhunwala, Divyansh and Wang, Shiqiang and Joshi, Gauri},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2023},
}"""

    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return eta_g times the mean for every parameter, and the state as it was."""
        from strategies.gram import combine, shares
        from strategies.stack import squares

        p = shares(weights, self.weights)
        mean, of_sites, of_mean = {}, 0.0, 0.0
        for name in updates:
            stack = updates[name]
            mean[name] = combine(stack, p)
            of_sites += float(p @ squares(stack))
            of_mean += float(squares(mean[name][None]))
        eta = max(1.0, of_sites / (2 * (of_mean + self.epsilon)))
        return {name: eta * value for name, value in mean.items()}, state
