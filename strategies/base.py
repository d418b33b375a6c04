"""What every aggregation strategy is.

A strategy is a frozen value that holds its own settings and a pure rule: updates, weights and
state go in, the aggregate update and the next state come out. It knows nothing of rounds, files or
Flower; `fedsim.flower.strategy` makes a Flower strategy of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, Any]
"""What a strategy remembers between rounds: nested dicts of tensors and plain numbers."""
NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class Strategy(BaseModel, ABC):
    """A rule that turns the client updates of a round into one aggregate update.

    A client update is local minus global parameters; the server adds the aggregate update to the
    global parameters. Parameters only: buffers never reach a strategy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    reference: ClassVar[str] = ""
    """BibTeX of the paper the rule comes from."""

    @property
    def reports(self) -> tuple[str, ...]:
        """Numbers that each site must report beside its update, such as `num-steps`."""
        return ()

    @property
    def broadcasts(self) -> tuple[str, ...]:
        """Names of what each site receives beside the model, an array for every parameter each."""
        return ()

    @property
    def collects(self) -> tuple[str, ...]:
        """Names of what each site must send beside its model, an array for every parameter each."""
        return ()

    @property
    def mean(self) -> Mean | None:
        """The mean through which alone the rule looks at the updates; None if it needs them all."""
        return None

    def init(self, parameters: Mapping[str, Tensor], num_sites: int) -> State:
        """Return the state before the first round; empty unless a rule keeps something.

        Args:
            parameters: the initial global parameters by name.
            num_sites: of the population, N; a round's cohort may be smaller.
        """
        return {}

    @abstractmethod
    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return the aggregate update and the next state; no input is changed.

        Args:
            updates: for each parameter the client updates stacked over sites, (site, *shape),
                floating point. May be built on access: read each entry as seldom as possible.
                What it `collects` stands beside them, under names such as `control/fc.weight`.
            weights: example counts n_k, (site,), float64, non-negative with a positive sum.
            state: what `init` or the previous call returned.
            reported: what `reports` asks for, by name, (site,), float64.

        Returns:
            The aggregate update by name, (*shape), dtype of the updates, and the next state.
        """

    def broadcast(self, state: State) -> Mapping[str, Mapping[str, Tensor]]:
        """Return what it `broadcasts` in the next round, by name and parameter."""
        return {}

    def from_mean(
        self, mean: Mapping[str, Tensor], weights: Tensor, state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return what `aggregate` would, from the mean of the updates that `self.mean` takes."""
        raise TypeError(f"{self.kind} needs all updates at once")


class FromMean(Strategy):
    """A strategy that looks at the updates through a mean of another kind alone."""

    @property
    @abstractmethod
    def mean(self) -> Mean:
        """The mean that `from_mean` takes."""

    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return what `from_mean` makes of the mean of the updates."""
        mean, _ = self.mean.aggregate(updates, weights, {}, reported)
        return self.from_mean(mean, weights, state)

    @abstractmethod
    def from_mean(
        self, mean: Mapping[str, Tensor], weights: Tensor, state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return the aggregate update and the next state; arguments as in `aggregate`."""


class Mean(Strategy):
    """A strategy whose aggregate is sum_k a_k g_k / d.

    A server can add the updates g_k as they arrive, hold none of them, and divide once.
    """

    @property
    def mean(self) -> Mean | None:
        """Itself, unless a subclass aggregates in a way of its own."""
        return self if type(self).aggregate is Mean.aggregate else None

    @abstractmethod
    def coefficient(self, weight: float, reported: Mapping[str, float]) -> float:
        """Return a_k of one site, non-negative.

        Args:
            weight: the site's example count n_k.
            reported: what `reports` asks for, by name.
        """

    @abstractmethod
    def divisor(self, weights: Tensor, reported: Mapping[str, Tensor]) -> float:
        """Return d, positive; arguments as in `aggregate`."""

    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return sum_k a_k g_k / d for every parameter, and the state as it was."""
        from strategies.gram import combine

        a = weights.new_tensor(
            [
                self.coefficient(n, {name: float(values[k]) for name, values in reported.items()})
                for k, n in enumerate(weights.tolist())
            ]
        )
        share = a / self.divisor(weights, reported)
        return {name: combine(updates[name], share) for name in updates}, state

    def from_mean(
        self, mean: Mapping[str, Tensor], weights: Tensor, state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return the mean, and the state as it was."""
        return dict(mean), state
