"""What every aggregation strategy is.

A strategy is a frozen value that holds its own settings and a pure rule: updates, weights and
state go in, the aggregate update and the next state come out. It knows nothing of rounds, files or
Flower; `fedsim.flower.strategy` makes a Flower strategy of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, Any]
"""What a strategy remembers between rounds: nested dicts of tensors and plain numbers."""


class Strategy(BaseModel, ABC):
    """A rule that turns the client updates of a round into one aggregate update.

    A client update is local minus global parameters; the server adds the aggregate update to the
    global parameters. Parameters only: buffers never reach a strategy.
    """

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
    def aggregate(
        self, updates: Mapping[str, Tensor], weights: Tensor, state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return the aggregate update and the next state; neither input is changed.

        Args:
            updates: for each parameter the client updates stacked over sites, (site, *shape),
                floating point. May be built on access: read each entry as seldom as possible.
            weights: example counts n_k, (site,), float64, non-negative with a positive sum.
            state: what `init` or the previous call returned.

        Returns:
            The aggregate update by name, (*shape), dtype of the updates, and the next state.
        """
