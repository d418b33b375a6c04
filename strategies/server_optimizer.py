"""Server optimizers: treat the aggregate update as a gradient and take a step with it.

The pseudo-gradient is minus the aggregate update. Any optimizer stands behind any strategy: that
the two halves of federated optimization can be chosen apart is the framework of Reddi et al.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from strategies.base import NOTHING, Mean, State, Strategy

if TYPE_CHECKING:
    from torch import Tensor

REDDI = """@inproceedings{reddi2021adaptive,
  title = {Adaptive Federated Optimization},
  author = {Reddi, Sashank J. and Charles, Zachary and Zaheer, Manzil and Garrett, Zachary
            and Rush, Keith and Kone{\\v{c}}n{\\'y}, Jakub and Kumar, Sanjiv
            and McMahan, H. Brendan},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2021},
}"""


class ServerOptimizer(BaseModel, ABC):
    """A rule that turns aggregate updates, round after round, into steps of the global model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    reference: ClassVar[str] = ""
    """BibTeX of the paper the rule comes from."""

    @abstractmethod
    def init(self, parameters: Mapping[str, Tensor]) -> State:
        """Return the state before the first round.

        Args:
            parameters: the initial global parameters by name.
        """

    @abstractmethod
    def step(
        self, aggregate: Mapping[str, Tensor], state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return what to add to the parameters, and the next state; neither input is changed.

        Args:
            aggregate: the aggregate update by name, (*shape), floating point.
            state: what `init` or the previous call returned.
        """


class WithServerOptimizer(Strategy):
    """Any strategy, with an optimizer on the server behind it.

    State: `strategy` and `optimizer`, the states of the two.

    >>> from strategies.server_sgd import ServerSgd
    >>> from strategies.weighted_mean import WeightedMean
    >>> WithServerOptimizer(strategy=WeightedMean(), optimizer=ServerSgd(momentum=0.9)).kind
    'with_server_optimizer'
    """

    kind: Literal["with_server_optimizer"] = "with_server_optimizer"
    strategy: SerializeAsAny[Strategy] = Field(description="what makes the aggregate update")
    optimizer: SerializeAsAny[ServerOptimizer] = Field(description="what steps along it")

    reference: ClassVar[str] = REDDI

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
    def broadcasts(self) -> tuple[str, ...]:
        """What the strategy does."""
        return self.strategy.broadcasts

    @property
    def collects(self) -> tuple[str, ...]:
        """What the strategy does."""
        return self.strategy.collects

    @property
    def mean(self) -> Mean | None:
        """That of the strategy."""
        return self.strategy.mean

    def broadcast(self, state: State) -> Mapping[str, Mapping[str, Tensor]]:
        """Return what the strategy does."""
        return self.strategy.broadcast(state["strategy"])

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
        self, mean: Mapping[str, Tensor], weights: Tensor, state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return the optimizer's step along what the strategy makes of the mean."""
        return self._step(*self.strategy.from_mean(mean, weights, state["strategy"]), state)

    def _step(
        self, aggregate: Mapping[str, Tensor], inner: State, state: State
    ) -> tuple[dict[str, Tensor], State]:
        update, optimizer = self.optimizer.step(aggregate, state["optimizer"])
        return update, {"strategy": inner, "optimizer": optimizer}
