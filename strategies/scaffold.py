"""Control variates on the server (SCAFFOLD, server half).

Source: Karimireddy et al., ICML 2020, algorithm 1. The sites of a round S receive the model and the
control variate c, and send beside their model how their own control variate changed:

    w += 1/|S| sum_S g_k,      c += 1/N sum_S (c_k+ - c_k)

with N the number of all sites. The server's learning rate is that of the server optimizer. As in
the paper all sites count alike, so that what is minimised is the plain mean of their objectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from strategies.base import FromMean, Mean, State
from strategies.weighted_mean import WeightedMean

if TYPE_CHECKING:
    from torch import Tensor

CONTROL = "control"


class Scaffold(FromMean):
    """The mean of the updates, and of the changes of control variates (SCAFFOLD).

    For sites with the regulariser `control_variates`.

    State: `control`, c by parameter name; `num_sites`, N.
    """

    kind: Literal["scaffold"] = "scaffold"

    reference: ClassVar[str] = """@inproceedings{karimireddy2020scaffold,
  title = {{SCAFFOLD}: Stochastic Controlled Averaging for Federated Learning},
  author = {Karimireddy, Sai Praneeth and Kale, Satyen and Mohri, Mehryar and Reddi, Sashank and
            Stich, Sebastian and Suresh, Ananda Theertha},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2020},
}"""

    @property
    def broadcasts(self) -> tuple[str, ...]:
        """The control variate c."""
        return (CONTROL,)

    @property
    def collects(self) -> tuple[str, ...]:
        """The changes of the sites' own control variates."""
        return (CONTROL,)

    @property
    def mean(self) -> Mean:
        """The plain mean over the sites."""
        return WeightedMean(weights="uniform")

    def init(self, parameters: Mapping[str, Tensor], num_sites: int) -> State:
        """Return c = 0."""
        import torch

        zeros = {name: torch.zeros_like(value) for name, value in parameters.items()}
        return {CONTROL: zeros, "num_sites": num_sites}

    def broadcast(self, state: State) -> Mapping[str, Mapping[str, Tensor]]:
        """Return c."""
        return {CONTROL: state[CONTROL]}

    def from_mean(
        self, mean: Mapping[str, Tensor], weights: Tensor, state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return the mean of the updates, and the next c."""
        share = len(weights) / state["num_sites"]
        control = {
            name: (c + share * mean[f"{CONTROL}/{name}"]).to(c.dtype)
            for name, c in state[CONTROL].items()
        }
        update = {name: mean[name] for name in state[CONTROL]}
        return update, {**state, CONTROL: control}
