"""Phantoms: noise with or without a bright disc, at two hospitals."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.data.source import SITE, Dataset, Facts, Source
from fedsim.seeds import Streams

HOSPITALS = ("north", "south")


class Phantoms(Source):
    """Images that show a disc or none.

    Args:
        kind: "phantoms".
        num_examples: number of images.
        image_size: height and width in pixels.
    """

    kind: Literal["phantoms"] = "phantoms"
    num_examples: Annotated[int, Field(gt=0, le=100_000)] = 200
    image_size: Annotated[int, Field(ge=16, le=256)] = 16

    def facts(self) -> Facts:
        """Return what is known without drawing anything."""
        return Facts(
            num_channels=1,
            image_size=self.image_size,
            class_names=("empty", "disc"),
            ordinal=False,
            num_examples={"all": self.num_examples},
            licence="made by a program",
            columns={SITE: HOSPITALS},
            synthetic=True,
        )

    def open(self, streams: Streams) -> Dataset:
        """Draw the labels, and return a way to get the images."""
        labels = streams.numpy("phantom_labels").integers(0, 2, self.num_examples)
        sites = np.array(HOSPITALS)[np.arange(self.num_examples) % 2]

        def images(split: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
            return np.stack([self._draw(streams, int(i), int(labels[i])) for i in indices])

        checksum = f"{self.model_dump_json()}/{streams.seed}"
        return Dataset({"all": labels}, images, {"phantoms": checksum}, {SITE: {"all": sites}})

    def _draw(self, streams: Streams, index: int, label: int) -> NDArray[np.uint8]:
        """Return one image, (1, height, width); every index has a stream of its own."""
        rng = streams.numpy("phantom", index=index)
        image = rng.normal(90, 30, (self.image_size, self.image_size))
        row, column = np.ogrid[: self.image_size, : self.image_size]
        centre = rng.uniform(0.3, 0.7, 2) * self.image_size
        disc = (row - centre[0]) ** 2 + (column - centre[1]) ** 2 < (self.image_size / 6) ** 2
        return (image + 90 * label * disc).clip(0, 255).astype(np.uint8)[None]
