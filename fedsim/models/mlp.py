"""A multi-layer perceptron on flattened pixels: the cheapest baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fedsim.models.base import Model

if TYPE_CHECKING:
    from torch import nn


class Mlp(Model):
    """Fully connected layers with ReLU between them."""

    kind: Literal["mlp"] = "mlp"
    widths: tuple[Annotated[int, Field(gt=0, le=16_384)], ...] = Field(default=(64,), max_length=64)

    @property
    def min_image_size(self) -> int:
        """Any image will do."""
        return 1

    def build(self, num_channels: int, num_classes: int, image_size: int) -> nn.Module:
        """Return the network."""
        from fedsim.models.networks import mlp

        return mlp(num_channels * image_size**2, num_classes, self.widths)
