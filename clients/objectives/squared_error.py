"""Squared error: the empirical risk of regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from clients.objectives.base import Context, Objective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class SquaredError(Objective):
    """Mean of (f - y)^2, with f the network's one output and y the label, a real number.

    >>> SquaredError().learns_numbers
    True
    """

    kind: Literal["squared_error"] = "squared_error"

    @property
    def learns_classes(self) -> bool:
        """It does not."""
        return False

    @property
    def learns_numbers(self) -> bool:
        """It does."""
        return True

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the mean squared error of the batch, a scalar."""
        from torch.nn.functional import mse_loss

        return mse_loss(model(batch.images).squeeze(1), batch.labels)
