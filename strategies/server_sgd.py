"""Server SGD: a learning rate and momentum on the server; with momentum it is FedAvgM.

Source: Hsu, Qi and Brown, 2019 (arXiv 1909.06335); the momentum is that of `torch.optim.SGD`
without dampening: v = momentum * v + g, w = w - learning_rate * v.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import State
from strategies.server_optimizer import ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


class ServerSgd(ServerOptimizer):
    """Stochastic gradient descent on the pseudo-gradient.

    State: `velocity`, -v by parameter name; empty without momentum, so that it costs no memory.

    >>> import torch
    >>> sgd = ServerSgd(learning_rate=2.0, momentum=0.5)
    >>> update, state = sgd.step({"bias": torch.ones(1)}, {"velocity": {"bias": torch.ones(1)}})
    >>> update["bias"], state["velocity"]["bias"]
    (tensor([3.]), tensor([1.5000]))
    """

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="what the velocity is multiplied with"
    )
    momentum: float = Field(
        default=0.0, ge=0, lt=1, description="how much of the velocity a round keeps"
    )

    reference: ClassVar[str] = """@misc{hsu2019measuring,
  title = {Measuring the Effects of Non-Identical Data Distribution for Federated Visual
           Classification},
  author = {Hsu, Tzu-Ming Harry and Qi, Hang and Brown, Matthew},
  eprint = {1909.06335},
  archiveprefix = {arXiv},
  year = {2019},
}"""

    def init(self, parameters: Mapping[str, Tensor]) -> State:
        """Return the state before the first round: at rest."""
        import torch

        if self.momentum == 0:
            return {"velocity": {}}
        return {"velocity": {name: torch.zeros_like(value) for name, value in parameters.items()}}

    def step(
        self, aggregate: Mapping[str, Tensor], state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return the velocity times the learning rate, and the next velocity.

        With learning rate one and no momentum that is the aggregate, bit for bit.
        """
        if self.momentum == 0:
            return {name: self.learning_rate * value for name, value in aggregate.items()}, state
        velocity = {
            name: self.momentum * state["velocity"][name] + value
            for name, value in aggregate.items()
        }
        update = {name: self.learning_rate * value for name, value in velocity.items()}
        return update, {"velocity": velocity}
