"""Networks of MONAI by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from fedsim.models.base import Model

if TYPE_CHECKING:
    from torch import nn


class MonaiNetwork(Model):
    """A 2-D classification network of `monai.networks.nets` for images of 64 pixels or more.

    It starts from random weights.

    DenseNet121 uses batch normalisation: its running statistics are averaged over sites like any
    buffer, and never enter an aggregation rule.
    """

    kind: Literal["monai"] = "monai"
    name: Literal["DenseNet121"] = "DenseNet121"

    @property
    def min_image_size(self) -> int:
        """DenseNet121 halves the image five times and normalises what is left."""
        return 64

    def build(self, num_channels: int, num_classes: int, image_size: int) -> nn.Module:
        """Return the network."""
        import monai.networks.nets

        network = getattr(monai.networks.nets, self.name)
        return cast(
            "nn.Module",
            network(spatial_dims=2, in_channels=num_channels, out_channels=num_classes),
        )
