"""The examples of all sites in one block of shared memory, where every worker reads them in place.

The block has room for the examples of every site. A worker that needs some which are not there yet
makes them and puts them there. The system gives memory to what is written alone, so sites that
never take part take none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedsim.data.population import Examples, Population
from fedsim.data.source import SPLITS, Split
from fedsim.engines.shared import aligned

LABEL_BYTES, PIXEL_BYTES = 8, 4
"""Of a label at most, and of a pixel."""


@dataclass(frozen=True)
class Place:
    """Where the examples of one split of one site lie.

    Args:
        number: of the mark that says that they are there.
        start: first byte.
        num: of the examples.
    """

    number: int
    start: int
    num: int


class Layout:
    """Where the examples of a population lie in a block.

    First come the marks, a byte for each place, then labels and images of one place after the
    other.

    Args:
        population: whose examples.
        image_shape: (channel, height, width).
    """

    def __init__(self, population: Population, image_shape: tuple[int, ...]) -> None:
        self.image_shape, self.label_type = image_shape, population.truths.dtype
        self.places: dict[tuple[int, Split], Place] = {}
        keys = [(holder, split) for holder in population.holders for split in SPLITS]
        end = aligned(len(keys))
        for number, (holder, split) in enumerate(keys):
            num = len(population.held(holder)[split])
            self.places[holder, split] = Place(number, end, num)
            end += self.num_bytes_of(num)
        self.num_bytes = end

    def num_bytes_of(self, num: int) -> int:
        """Return what so many examples take."""
        return aligned(num * LABEL_BYTES) + aligned(num * self.image_bytes)

    @property
    def image_bytes(self) -> int:
        """Of one image."""
        return PIXEL_BYTES * math.prod(self.image_shape)


class SharedExamples:
    """What a population of one of several processes keeps, see `fedsim.data.population.Kept`.

    No site is at work in two processes at a time. Should two make the same examples nevertheless,
    they write the same bytes.

    Args:
        layout: the same in all processes.
        block: shared memory, zero at first; the examples must not outlive it.
        take: called with the first byte and the number of those that will be written; raises an
            error if there is no memory for them. There is for the marks.
    """

    def __init__(self, layout: Layout, block: memoryview, take: Callable[[int, int], None]) -> None:
        self._layout, self._block, self._take = layout, block, take
        self._marks = np.ndarray(len(layout.places), np.bool_, block)

    def __contains__(self, key: object) -> bool:
        place = self._layout.places.get(key)  # type: ignore[call-overload]
        return place is not None and bool(self._marks[place.number])

    def __getitem__(self, key: tuple[int, Split]) -> Examples:
        place = self._layout.places[key]
        images = place.start + aligned(place.num * LABEL_BYTES)
        shape = (place.num, *self._layout.image_shape)
        return Examples(
            np.ndarray(shape, np.float32, self._block, images),
            np.ndarray(place.num, self._layout.label_type, self._block, place.start),
        )

    def __setitem__(self, key: tuple[int, Split], examples: Examples) -> None:
        place, mine = self._layout.places[key], self[key]
        self._take(place.start, self._layout.num_bytes_of(place.num))
        mine.images[...], mine.labels[...] = examples.images, examples.labels
        self._marks[place.number] = True
