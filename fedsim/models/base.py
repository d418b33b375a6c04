"""What every model is: a description from which a network is built."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import Field

from fedsim.location import Location
from fedsim.plugins import Part

if TYPE_CHECKING:
    from torch import nn


class Model(Part):
    """A network whose channels, classes and input size come from the data."""

    kind: str
    weights: Location | None = Field(
        default=None,
        description="starting weights from a local file: safetensors, or a torch state dict",
    )

    frozen: tuple[str, ...] = Field(
        default=(),
        description="patterns such as `features.*` of parameters that keep their starting weights",
    )

    @property
    @abstractmethod
    def min_image_size(self) -> int:
        """The smallest image, in pixels, that the network takes."""

    @abstractmethod
    def build(self, num_channels: int, num_classes: int, image_size: int) -> nn.Module:
        """Return the network with fresh weights from torch's global random state.

        The network maps images (example, channel, height, width), float32, to logits
        (example, class).
        """
