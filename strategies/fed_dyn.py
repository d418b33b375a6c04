"""Dynamic regularisation on the server (FedDyn, server half).

Source: Acar et al., ICLR 2021, algorithm 1. With updates g_k of the sites of a round S, N sites in
all and the sites' own alpha

    h -= alpha/N sum_S g_k,      w = 1/|S| sum_S w_k - h/alpha

As in the paper all sites count alike, so that what is minimised is the plain mean of their
objectives. In the first round, with all sites, that is twice the mean update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import FromMean, Mean, State
from strategies.weighted_mean import WeightedMean

if TYPE_CHECKING:
    from torch import Tensor


class FedDyn(FromMean):
    """The mean of the local models, moved by what the server remembers of them (FedDyn).

    For sites with the regulariser `dynamic`.

    State: `h` by parameter name; `num_sites`, N.

    >>> import torch
    >>> strategy = FedDyn(alpha=0.5)
    >>> state = strategy.init({"bias": torch.zeros(1)}, num_sites=4)
    >>> update, state = strategy.aggregate({"bias": torch.ones(2, 1)}, torch.ones(2), state)
    >>> update["bias"], state["h"]["bias"]
    (tensor([1.5000]), tensor([-0.2500]))
    """

    kind: Literal["fed_dyn"] = "fed_dyn"
    alpha: float = Field(
        default=0.01, gt=0, allow_inf_nan=False, description="the same as the sites'"
    )

    reference: ClassVar[str] = """@inproceedings{acar2021federated,
  title = {Federated Learning Based on Dynamic Regularization},
  author = {Acar, Durmus Alp Emre and Zhao, Yue and Matas, Ramon and Mattina, Matthew and
            Whatmough, Paul and Saligrama, Venkatesh},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2021},
}"""

    @property
    def mean(self) -> Mean:
        """The plain mean over the sites."""
        return WeightedMean(weights="uniform")

    def init(self, parameters: Mapping[str, Tensor], num_sites: int) -> State:
        """Return h = 0."""
        import torch

        zeros = {name: torch.zeros_like(value) for name, value in parameters.items()}
        return {"h": zeros, "num_sites": num_sites}

    def from_mean(
        self, mean: Mapping[str, Tensor], weights: Tensor, state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return the mean of the updates minus the next h/alpha, and h."""
        share = self.alpha * len(weights) / state["num_sites"]
        h = {name: (h - share * mean[name]).to(h.dtype) for name, h in state["h"].items()}
        update = {name: (mean[name] - h[name] / self.alpha).to(mean[name].dtype) for name in h}
        return update, {**state, "h": h}
