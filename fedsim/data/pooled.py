"""The splits of a source in one row, whose positions say which example is meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsim.data.population import Indices, Pixels
from fedsim.data.source import Dataset, Numbers, Texts


@dataclass(frozen=True)
class Pooled:
    """A source's splits in one row.

    Args:
        starts: split -> its first position.
        labels: (n,), classes of the task.
        targets: (n,), real numbers that are learned in place of classes, if they are.
        columns: column -> (n,), text.
        pixels: function of positions -> uint8 images.
    """

    starts: Mapping[str, int]
    labels: Indices
    columns: Mapping[str, Texts]
    pixels: Pixels
    targets: Numbers | None = None

    @classmethod
    def of(
        cls, dataset: Dataset, label_map: Mapping[int, int] | None, target: str | None = None
    ) -> Pooled:
        """Join the splits of an opened source and map its classes to those of the task.

        Args:
            dataset: an opened source.
            label_map: class of the source -> class of the task.
            target: name of the real number that is learned, if it is one.
        """
        splits = list(dataset.labels)
        sizes = [len(dataset.labels[split]) for split in splits]
        starts = dict(zip(splits, [0, *np.cumsum(sizes[:-1]).tolist()], strict=True))
        labels = np.concatenate([dataset.labels[split] for split in splits]).astype(np.int64)
        if label_map is not None:
            labels = np.array([label_map[c] for c in range(max(label_map) + 1)], np.int64)[labels]

        def pixels(positions: Indices) -> NDArray[np.uint8]:
            owners = np.searchsorted(list(starts.values()), positions, side="right") - 1
            parts = [
                (inside, dataset.images(split, positions[inside] - starts[split]))
                for number, split in enumerate(splits)
                if (inside := np.flatnonzero(owners == number)).size or number == 0
            ]
            images = np.empty((len(positions), *parts[0][1].shape[1:]), np.uint8)
            for inside, found in parts:
                images[inside] = found
            return images

        columns = {
            name: np.concatenate([values[split] for split in splits])
            for name, values in dataset.columns.items()
        }
        numbers = None
        if target is not None:
            by_split = dataset.targets[target]()
            numbers = np.concatenate([by_split[split] for split in splits])
        return cls(starts, labels, columns, pixels, numbers)

    def positions(self, split: str) -> Indices:
        """Return the positions of a split."""
        bounds = [*self.starts.values(), len(self.labels)]
        number = list(self.starts).index(split)
        return np.arange(bounds[number], bounds[number + 1])
