"""Random changes of a training batch that leave the labels true: flips and shifts, per image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from clients.batch import Batch


class Augmentation(BaseModel):
    """Which changes are drawn for every image of every batch, independently.

    Flips happen with probability one half. Shifts are whole pixels, uniform in
    [-max_shift, max_shift] for each axis; the border is filled by repeating the edge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizontal_flip: bool = Field(default=False, description="left to right")
    vertical_flip: bool = Field(default=False, description="upside down")
    max_shift: int = Field(default=0, ge=0, description="pixels")

    @property
    def changes_anything(self) -> bool:
        """Whether any change is asked for."""
        return self.horizontal_flip or self.vertical_flip or self.max_shift > 0

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with changed images; all else is shared.

        Args:
            batch: images (example, channel, height, width).
            generator: CPU generator; the same draws whatever the device.
        """
        images = batch.images
        for flip, axis in ((self.horizontal_flip, 3), (self.vertical_flip, 2)):
            if flip:
                images = _flip_half(images, axis, generator)
        if self.max_shift:
            images = _shift(images, self.max_shift, generator)
        return replace(batch, images=images)


def _flip_half(images: Tensor, axis: int, generator: torch.Generator) -> Tensor:
    import torch

    chosen = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(chosen[:, None, None, None], images.flip(axis), images)


def _shift(images: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    import torch

    num, _, height, width = images.shape
    dy, dx = torch.randint(-max_shift, max_shift + 1, (2, num), generator=generator)
    rows = (torch.arange(height) + dy[:, None]).clamp(0, height - 1).to(images.device)
    columns = (torch.arange(width) + dx[:, None]).clamp(0, width - 1).to(images.device)
    example = torch.arange(num, device=images.device)[:, None, None]
    picked = images.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()
