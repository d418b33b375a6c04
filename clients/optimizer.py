"""Local optimisers and the schedule of their learning rate over rounds; the steps are torch's."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch
    from torch import nn


class Optimizer(BaseModel, ABC):
    """A local optimiser; a fresh one starts in every round at every site."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @abstractmethod
    def build(
        self, parameters: Iterable[nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """Return torch's optimiser over `parameters` at this round's learning rate."""


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum (torch.optim.SGD)."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0, lt=1)

    def build(
        self, parameters: Iterable[nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """Return torch.optim.SGD, see `clients.eager`."""
        from clients.eager import EagerSgd

        return EagerSgd(
            parameters, learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )


class Adam(Optimizer):
    """Adam with decoupled weight decay (torch.optim.AdamW)."""

    kind: Literal["adam"] = "adam"

    reference: ClassVar[str] = """@inproceedings{kingma2015adam,
  title = {Adam: A Method for Stochastic Optimization},
  author = {Kingma, Diederik P. and Ba, Jimmy},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2015},
}"""

    def build(
        self, parameters: Iterable[nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """Return torch.optim.AdamW; without weight decay that is Adam."""
        from clients.eager import EagerAdamW

        return EagerAdamW(parameters, learning_rate, weight_decay=self.weight_decay)


BUILTIN = (Sgd, Adam)


class Schedule(BaseModel, ABC):
    """The learning rate over rounds, as a factor on the optimiser's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    warmup_rounds: int = Field(
        default=0, ge=0, description="rounds of linear rise to the full rate"
    )

    def factor(self, round: int, num_rounds: int) -> float:
        """Return the factor in round `round` (1-based) of `num_rounds`."""
        if round <= self.warmup_rounds:
            return round / (self.warmup_rounds + 1)
        return self.decay(round - self.warmup_rounds, num_rounds - self.warmup_rounds)

    @abstractmethod
    def decay(self, round: int, num_rounds: int) -> float:
        """Return the factor in round `round` (1-based) of the `num_rounds` after the warm-up."""


class Constant(Schedule):
    """The same rate in every round."""

    kind: Literal["constant"] = "constant"

    def decay(self, round: int, num_rounds: int) -> float:
        """Return 1."""
        return 1.0


class Cosine(Schedule):
    """Half a cosine from 1 in the first round towards `final` (SGDR without restarts).

    >>> round(Cosine(final=0.0).factor(6, num_rounds=10), 3)
    0.5
    """

    kind: Literal["cosine"] = "cosine"
    final: float = Field(default=0.0, ge=0, le=1)

    def decay(self, round: int, num_rounds: int) -> float:
        """Return final + (1 - final) (1 + cos(pi (round - 1) / num_rounds)) / 2."""
        return (
            self.final + (1 - self.final) * (1 + math.cos(math.pi * (round - 1) / num_rounds)) / 2
        )


class Step(Schedule):
    """Multiply by `gamma` after every `every` rounds."""

    kind: Literal["step"] = "step"
    every: int = Field(gt=0)
    gamma: float = Field(default=0.1, gt=0, le=1)

    def decay(self, round: int, num_rounds: int) -> float:
        """Return gamma^floor((round - 1) / every)."""
        return float(self.gamma ** ((round - 1) // self.every))


SCHEDULES = (Constant, Cosine, Step)
