"""Images that are there twice, pixel for pixel, and so may let a model be tested on what it saw.

Nothing is removed: whether two equal images are one examination is for people to judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsim.data.population import ExternalSet, Pixels, Population

IMAGES_AT_ONCE = 256
EXAMPLES_KEPT = 20


@dataclass(frozen=True)
class Placed:
    """One image: where it ended up, what it is said to show, and the hash of its pixels."""

    site: str
    split: str
    label: int
    position: int
    digest: bytes


@dataclass(frozen=True)
class Duplicates:
    """Groups of equal images, before any shift of a site.

    Args:
        num_groups: groups of two or more.
        across_splits: groups with images in different splits, such as train and test.
        across_sites: groups with images at different sites.
        across_labels: groups with different labels.
        examples: the first groups, those across splits before others: where each image is.
    """

    num_groups: int
    across_splits: int
    across_sites: int
    across_labels: int
    examples: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Return what was found, in a sentence."""
        if not self.num_groups:
            return "no image is there twice"
        return (
            f"{self.num_groups} images are there more than once, pixel for pixel: "
            f"{self.across_splits} in several splits, {self.across_sites} at several sites, "
            f"{self.across_labels} with different labels"
        )


def look_at(population: Population) -> tuple[str, Duplicates]:
    """Return a SHA-256 over the pixels of all images, hexadecimal, and the duplicates among them.

    Every image is read once, a few at a time.
    """
    placed = sorted(_everything(population), key=lambda image: (image.position, image.site))
    whole = hashlib.sha256(b"".join(image.digest for image in placed)).hexdigest()
    groups: dict[bytes, list[Placed]] = {}
    for image in placed:
        groups.setdefault(image.digest, []).append(image)
    several = [group for group in groups.values() if len(group) > 1]

    def differ(group: list[Placed], what: str) -> bool:
        return len({getattr(image, what) for image in group}) > 1

    shown = sorted(several, key=lambda group: not differ(group, "split"))[:EXAMPLES_KEPT]
    return whole, Duplicates(
        num_groups=len(several),
        across_splits=sum(differ(group, "split") for group in several),
        across_sites=sum(differ(group, "site") for group in several),
        across_labels=sum(differ(group, "label") for group in several),
        examples=tuple(
            tuple(
                f"{i.site}, {i.split}, {population.class_names[i.label]}, image {i.position}"
                for i in group
            )
            for group in shown
        ),
    )


def _everything(population: Population) -> Iterator[Placed]:
    """Yield every image of the sites and of the external sets."""
    labels = population.labels
    for holder in population.holders:
        for split, positions in population.held(holder).items():
            found = digests(population.pixels, positions)
            for position, digest in zip(positions.tolist(), found, strict=True):
                yield Placed(
                    population.name(holder), split, int(labels[position]), position, digest
                )
    for part in population.external:
        yield from _external(part)


def _external(part: ExternalSet) -> Iterator[Placed]:
    indices = np.arange(len(part.labels))
    for index, digest in zip(indices.tolist(), digests(part.raw, indices), strict=True):
        yield Placed(part.name, "external", int(part.labels[index]), index, digest)


def digests(pixels: Pixels, positions: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the SHA-256 of the pixels of each image, read a few at a time."""
    for start in range(0, len(positions), IMAGES_AT_ONCE):
        for image in pixels(positions[start : start + IMAGES_AT_ONCE]):
            yield hashlib.sha256(np.ascontiguousarray(image).data).digest()
