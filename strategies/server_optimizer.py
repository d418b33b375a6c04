"""Server optimizers: treat the aggregate update as a gradient and take a step with it.

The pseudo-gradient is minus the aggregate update. `ServerSgd` with momentum is FedAvgM.

Source: Hsu, Qi and Brown, 2019 (arXiv 1909.06335); the momentum is that of `torch.optim.SGD`
without dampening: v = momentum * v + g, w = w - learning_rate * v.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from strategies.base import NOTHING, Mean, State, Strategy

if TYPE_CHECKING:
    from torch import Tensor


class ServerSgd(BaseModel):
    """Stochastic gradient descent on the pseudo-gradient.

    State: `velocity`, -v by parameter name; empty without momentum, so that it costs no memory.

    >>> import torch
    >>> sgd = ServerSgd(learning_rate=2.0, momentum=0.5)
    >>> update, state = sgd.step({"bias": torch.ones(1)}, {"velocity": {"bias": torch.ones(1)}})
    >>> update["bias"], state["velocity"]["bias"]
    (tensor([3.]), tensor([1.5000]))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="what the velocity is multiplied with"
    )
    momentum: float = Field(
        default=0.0, ge=0, lt=1, description="how much of the velocity a round keeps"
    )

    def init(self, parameters: Mapping[str, Tensor]) -> State:
        """Return the state before the first round: at rest."""
        import torch

        if self.momentum == 0:
            return {"velocity": {}}
        return {"velocity": {name: torch.zeros_like(value) for name, value in parameters.items()}}

    def step(
        self, aggregate: Mapping[str, Tensor], state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return what to add to the parameters, and the next state; neither input is changed.

        With learning rate one and no momentum that is the aggregate, bit for bit.

        Args:
            aggregate: the aggregate update by name, (*shape), floating point.
            state: what `init` or the previous call returned.
        """
        if self.momentum == 0:
            return {name: self.learning_rate * value for name, value in aggregate.items()}, state
        velocity = {
            name: self.momentum * state["velocity"][name] + value
            for name, value in aggregate.items()
        }
        update = {name: self.learning_rate * value for name, value in velocity.items()}
        return update, {"velocity": velocity}


class WithServerOptimizer(Strategy):
    """Any strategy, with an optimizer on the server behind it.

    State: `strategy` and `optimizer`, the states of the two.

    >>> from strategies.weighted_mean import WeightedMean
    >>> WithServerOptimizer(strategy=WeightedMean(), optimizer=ServerSgd(momentum=0.9)).kind
    'with_server_optimizer'
    """

    kind: Literal["with_server_optimizer"] = "with_server_optimizer"
    strategy: SerializeAsAny[Strategy] = Field(description="what makes the aggregate update")
    optimizer: ServerSgd = Field(description="what steps along it")

    reference: ClassVar[str] = """@misc{hsu2019measuring,
  title = {Measuring the Effects of Non-Identical Data Distribution for Federated Visual
           Classification},
  author = {Hsu, Tzu-Ming Harry and Qi, Hang and Brown, Matthew},
  eprint = {1909.06335},
  archiveprefix = {arXiv},
  year = {2019},
}"""

    def init(self, parameters: Mapping[str, Tensor], num_sites: int) -> State:
        """Return the states of the strategy and of the optimizer, side by side."""
        return {
            "strategy": self.strategy.init(parameters, num_sites),
            "optimizer": self.optimizer.init(parameters),
        }

    @property
    def reports(self) -> tuple[str, ...]:
        """What the strategy asks for."""
        return self.strategy.reports

    @property
    def mean(self) -> Mean | None:
        """That of the strategy."""
        return self.strategy.mean

    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return the optimizer's step along the aggregate of the strategy, and both states."""
        found = self.strategy.aggregate(updates, weights, state["strategy"], reported)
        return self._step(*found, state)

    def from_mean(
        self, mean: Mapping[str, Tensor], state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return the optimizer's step along what the strategy makes of the mean."""
        return self._step(*self.strategy.from_mean(mean, state["strategy"]), state)

    def _step(
        self, aggregate: Mapping[str, Tensor], inner: State, state: State
    ) -> tuple[dict[str, Tensor], State]:
        update, optimizer = self.optimizer.step(aggregate, state["optimizer"])
        return update, {"strategy": inner, "optimizer": optimizer}


SERVER_OPTIMIZERS = (ServerSgd,)
