"""Fine-tuning: before every evaluation a site trains a copy of the global model on its images.

The simplest personalisation, and a strong one; nothing is kept and the global model never changes
by it. Round 0 fine-tunes the initial model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from clients.personalisation.base import Personalisation

if TYPE_CHECKING:
    from clients.training import Plan


class FineTuning(Personalisation):
    """Some epochs from the global model at every site before it is evaluated."""

    kind: Literal["fine_tuning"] = "fine_tuning"
    epochs: int = Field(default=1, gt=0, description="passes over the site's training examples")

    def tuning(self, plan: Plan) -> Plan | None:
        """Return the same batches for so many epochs."""
        return replace(plan, epochs=self.epochs, steps=None)
