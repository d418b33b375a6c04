"""A small convolutional network with group normalisation: the default for studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fedsim.models.base import Model

if TYPE_CHECKING:
    from torch import nn


class SmallCnn(Model):
    """Blocks of 3x3 convolution, group normalisation and ReLU, then a mean over pixels.

    Each block halves the image. With `stride: 1` by max-pooling after a full convolution, with
    `stride: 2` by the convolution itself: the same parameters at less than a third of the cost.
    """

    kind: Literal["small_cnn"] = "small_cnn"
    widths: tuple[Annotated[int, Field(le=16_384)], ...] = Field(
        default=(16, 32, 64), min_length=1, max_length=12
    )
    stride: Literal[1, 2] = 1
    group_size: int = Field(default=8, gt=0, description="channels per normalisation group")

    def model_post_init(self, _: object) -> None:
        """Refuse widths that the groups do not divide."""
        if any(width <= 0 or width % self.group_size for width in self.widths):
            raise ValueError(
                f"every width must be a positive multiple of group_size ({self.group_size}), "
                f"got {list(self.widths)}"
            )

    @property
    def min_image_size(self) -> int:
        """Every block halves the image, at least one pixel must stay.

        Where one pixel of one channel would be a normalisation group, which has no spread, two.
        """
        alone = self.group_size == 1 and self.stride == 2
        return int(2 ** len(self.widths)) + alone

    def build(self, num_channels: int, num_classes: int, image_size: int) -> nn.Module:
        """Return the network."""
        from fedsim.models.networks import small_cnn

        return small_cnn(num_channels, num_classes, self.widths, self.stride, self.group_size)
