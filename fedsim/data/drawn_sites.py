"""A population whose sites draw their training examples from a pool each time they are looked at.

However many sites there are, only those that are looked at cost anything, and nothing of them is
kept. Validation and test images are held by the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from clients.targets import CLASSES, Target
from fedsim.data.appearance import Appearance
from fedsim.data.divided_sites import place
from fedsim.data.normalisation import Normalisation
from fedsim.data.partition import Iid
from fedsim.data.pooled import Pooled
from fedsim.data.population import SERVER, Indices, Population
from fedsim.data.resampled import Resampled
from fedsim.data.source import PATIENT, Dataset, Split
from fedsim.data.units import Units
from fedsim.errors import DataError
from fedsim.seeds import Streams

NOTHING: Indices = np.empty(0, np.int64)


class DrawnSites(Sequence[Mapping[Split, Indices]]):
    """What each site holds, drawn by its own stream at every look.

    Args:
        rule: how a site draws.
        pool: positions that sites draw from, ascending.
        units: of the pool's examples.
        num_classes: of the task.
        num_sites: how many there are.
        streams: the scenario's random streams.

    Raises:
        DataError: if the pool has fewer units than a site may draw.
    """

    def __init__(
        self,
        rule: Resampled,
        pool: Indices,
        units: Units,
        num_classes: int,
        num_sites: int,
        streams: Streams,
    ) -> None:
        if rule.bounds[1] > len(units.labels):
            raise DataError(
                f"partition.examples_per_site: a site may draw {rule.bounds[1]} examples, but the "
                f"pool has {len(units.labels)} (images, or patients where they are known): ask for "
                "fewer, or hold out less"
            )
        self._rule, self._pool, self._units = rule, pool, units
        self._by_class = [np.flatnonzero(units.labels == c) for c in range(num_classes)]
        self._num_sites, self._streams = num_sites, streams

    def describe(self) -> dict[str, Any]:
        """Return how many sites draw how many units (images or patients) of how many."""
        return {
            "num_sites": self._num_sites,
            "examples_per_site": list(self._rule.bounds),
            "pool": len(self._units.labels),
            "unit": "patient" if PATIENT in self._units.columns else "image",
            "alpha": self._rule.alpha,
        }

    def __len__(self) -> int:
        return self._num_sites

    @overload
    def __getitem__(self, index: int) -> Mapping[Split, Indices]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Mapping[Split, Indices]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> Mapping[Split, Indices] | list[Mapping[Split, Indices]]:
        if isinstance(index, slice):
            return [self[site] for site in range(self._num_sites)[index]]
        site = range(self._num_sites)[index]
        drawn = self._rule.draw(self._by_class, self._streams.numpy("partition", site=site))
        mine = self._pool[self._units.examples(drawn)]
        return {"train": mine, "validation": NOTHING, "test": NOTHING}


def describe(population: Population) -> dict[str, Any] | None:
    """Return how the sites draw, as plain data, or None where every site has its own examples."""
    sites = population.indices
    return sites.describe() if isinstance(sites, DrawnSites) else None


def text(drawn: Mapping[str, Any]) -> str:
    """Return what `describe` says in a sentence.

    >>> text({"num_sites": 9000, "examples_per_site": [5, 5], "pool": 70, "unit": "image"})
    "9,000 sites, each of which draws 5 of the same 70 training images; the others are the server's"
    """
    fewest, most = drawn["examples_per_site"]
    num = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    what = "images" if drawn["unit"] == "image" else "patients with their images"
    return (
        f"{drawn['num_sites']:,} sites, each of which draws {num} of the same {drawn['pool']:,} "
        f"training {what}; the others are the server's"
    )


def form(
    dataset: Dataset,
    *,
    class_names: tuple[str, ...],
    label_map: Mapping[int, int] | None,
    names: Sequence[str],
    rule: Resampled,
    shares: Mapping[Split, float],
    normalisation: Normalisation,
    streams: Streams,
    appearance: Appearance | None = None,
    target: str | None = None,
    predicted: Target = CLASSES,
) -> Population:
    """Give all examples to the server, from whose training examples the sites will draw.

    With an `appearance` the server's images are as diverse as the sites: image i is shown as by
    the scanner of site i mod the number of sites.

    Args:
        dataset: an opened source.
        class_names: of the task.
        label_map: class of the source -> class of the task.
        names: of the sites.
        rule: how a site draws.
        shares: of all examples for validation or test; a split without a share is the source's own.
        normalisation: what the network sees.
        streams: the scenario's random streams.
        appearance: shift per site.
        target: name of the real number that is learned, if it is one.
        predicted: what the network says of an image.

    Raises:
        DataError: if there are too few examples, or a patient is in two splits.
    """
    pooled = Pooled.of(dataset, label_map, target)
    (server,) = place(pooled, 1, len(class_names), Iid(min_examples=1), shares, streams)
    pool = server["train"]
    columns = {name: values[pool] for name, values in pooled.columns.items()}
    units = Units.of(pooled.labels[pool], columns, len(class_names))

    def shown(holder: int, positions: Indices) -> NDArray[np.uint8]:
        images = pooled.pixels(positions)
        if appearance is None:
            return images
        scanners = np.full(len(positions), holder) if holder != SERVER else positions % len(names)
        for site in np.unique(scanners).tolist():
            mine = np.flatnonzero(scanners == site)
            images[mine] = appearance.apply(
                images[mine], site, names[site], positions[mine], streams
            )
        return images

    return Population(
        names=names,
        class_names=class_names,
        indices=DrawnSites(rule, pool, units, len(class_names), len(names), streams),
        labels=pooled.labels,
        pixels=pooled.pixels,
        shown=shown,
        normalisation=normalisation,
        checksums=dataset.checksums,
        columns=pooled.columns,
        targets=pooled.targets,
        predicted=predicted,
        server=server,
    )
