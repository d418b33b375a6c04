"""How pixels become the numbers a network sees."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.plugins import Part


class Normalisation(Part):
    """A fixed rule that looks at one image at a time, so that nothing leaks between images."""

    kind: str

    @abstractmethod
    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the images as the network sees them, same shape.

        Args:
            images: (example, channel, height, width).
        """


class Unit(Normalisation):
    """Scale pixels from 0..255 to 0..1."""

    kind: Literal["unit"] = "unit"

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return images / 255."""
        scaled: NDArray[np.float32] = np.divide(images, np.float32(255), dtype=np.float32)
        return scaled


class Standard(Normalisation):
    """Scale to 0..1, then subtract a mean and divide by a standard deviation that are given."""

    kind: Literal["standard"] = "standard"
    mean: tuple[float, ...] = Field(default=(0.5,), min_length=1, description="one, or per channel")
    std: tuple[Annotated[float, Field(ge=1e-6)], ...] = Field(
        default=(0.5,), min_length=1, description="one, or per channel"
    )

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (images / 255 - mean) / std, channel by channel."""
        mean, std = (np.asarray(v, np.float32).reshape(1, -1, 1, 1) for v in (self.mean, self.std))
        return (Unit().apply(images) - mean) / std


class PerImage(Normalisation):
    """Give every image and channel zero mean and unit standard deviation."""

    kind: Literal["per_image"] = "per_image"

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return standardised images; a constant channel becomes zero."""
        scaled = images.astype(np.float64)
        centred = scaled - scaled.mean(axis=(2, 3), keepdims=True)
        spread = scaled.std(axis=(2, 3), keepdims=True)
        standardised: NDArray[np.float32] = (centred / np.where(spread > 0, spread, 1)).astype(
            np.float32
        )
        return standardised


BUILTIN = (Unit, Standard, PerImage)
