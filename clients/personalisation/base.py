"""What makes the model of a site its own."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import nn

    from clients.regularisers import Regulariser
    from clients.training import Plan


class Personalisation(BaseModel, ABC):
    """A way to a model for each site; where it is set, sites are evaluated with their own.

    A method says which of three things it does: keep parameters to the site, train a second model
    beside the global one, train further before an evaluation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    reference: ClassVar[str] = ""
    """BibTeX of the paper the method comes from."""
    remembers: ClassVar[bool] = False
    """Whether a site keeps something from one of its rounds to the next."""
    keeps_parameters: ClassVar[bool] = False
    """Whether some parameters never leave a site, so that the server has no whole model."""

    def private(self, model: nn.Module) -> frozenset[str]:
        """Return the names of the parameters and buffers that never leave a site.

        Raises:
            ValueError: if the network has not what is asked for.
        """
        return frozenset()

    @property
    def beside(self) -> Regulariser | None:
        """What holds a personal model to the global one, if one is trained beside it."""
        return None

    def tuning(self, plan: Plan) -> Plan | None:
        """Return what a site does with a copy of the global model before it evaluates, if anything.

        Args:
            plan: what it does in a round.
        """
        return None
