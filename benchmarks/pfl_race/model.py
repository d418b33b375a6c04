"""pfl's convolutional network as a part of fedsim; the entry point beside this file names it."""

from __future__ import annotations

from typing import Literal

from torch import nn

from fedsim.models import Model
from pfl_race import task


class PflCnn(Model):
    """See `task.cnn`."""

    kind: Literal["pfl_cnn"] = "pfl_cnn"

    @property
    def min_image_size(self) -> int:
        """Two convolutions and a pooling must leave a pixel."""
        return 6

    def build(self, num_channels: int, num_classes: int, image_size: int) -> nn.Module:
        """Return the network."""
        return task.cnn(num_channels, num_classes, image_size)
