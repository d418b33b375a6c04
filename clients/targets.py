"""What a network says of an image: its class, or a real number.

Everything that differs between classification and regression once the labels are there: how labels
are learned, how the outputs of a network are read, and what its error is.

>>> import numpy as np
>>> Quantity(low=10, high=30).learned(np.array([10.0, 20.0]))
array([0. , 0.5])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", "Tensor", NDArray[Any])


class Target(ABC):
    """What is to be predicted."""

    @abstractmethod
    def learned(self, truth: Values) -> Values:
        """Return what a network learns of true values, (example,)."""

    @abstractmethod
    def original(self, learned: Values) -> Values:
        """Return the true values of what a network learns: the inverse of `learned`."""

    @abstractmethod
    def scores(self, outputs: Tensor) -> Tensor:
        """Return what a network's outputs, (example, output), say, (example, output)."""

    @abstractmethod
    def loss(self, scores: Tensor, learned: Tensor) -> Tensor:
        """Return the mean loss of scores on what was to be learned, (example,), a scalar."""


class Classes(Target):
    """One of several classes: an output is the logit of a class, its score the log-probability.

    The loss is cross-entropy, in nats.
    """

    def learned(self, truth: Values) -> Values:
        """Return the classes as they are, int64."""
        return truth

    def original(self, learned: Values) -> Values:
        """Return the classes as they are."""
        return learned

    def scores(self, outputs: Tensor) -> Tensor:
        """Return log P(class | image), (example, class)."""
        return outputs.log_softmax(dim=1)

    def loss(self, scores: Tensor, learned: Tensor) -> Tensor:
        """Return the mean negative log-probability of the true class."""
        from torch.nn.functional import nll_loss

        return nll_loss(scores, learned)


CLASSES = Classes()


@dataclass(frozen=True)
class Quantity(Target):
    """A real number: the network has one output, which is 0 at `low` and 1 at `high`.

    The score is in the unit of the number, the loss is the squared error in units of high - low.

    Args:
        low: public constant; what is learned as 0.
        high: public constant; what is learned as 1. Numbers may lie outside the two.
    """

    low: float = 0.0
    high: float = 1.0

    def learned(self, truth: Values) -> Values:
        """Return (number - low) / (high - low), of the same dtype."""
        learned: Values = (truth - self.low) / (self.high - self.low)
        return learned

    def original(self, learned: Values) -> Values:
        """Return low + (high - low) learned, of the same dtype."""
        original: Values = self.low + (self.high - self.low) * learned
        return original

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the numbers, (example, 1)."""
        return self.original(outputs)

    def loss(self, scores: Tensor, learned: Tensor) -> Tensor:
        """Return the mean squared error."""
        return (self.learned(scores.squeeze(1)) - learned).square().mean()
