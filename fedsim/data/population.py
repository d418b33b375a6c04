"""The sites of a study: who holds which examples for training, validation and test.

The index sets are formed from labels alone; images are made when a site is first used and then
kept, shifted by the site's scanner and normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.data.appearance import Scanner
from fedsim.data.normalisation import Normalisation
from fedsim.data.partition import Partition
from fedsim.data.source import SPLITS, Dataset, Split
from fedsim.seeds import Streams

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Images and labels of one split of one site.

    Args:
        images: (example, channel, height, width), float32, normalised.
        labels: (example,), int64, classes of the task.
    """

    images: NDArray[np.float32]
    labels: Indices


@dataclass(frozen=True)
class Population:
    """All sites of a study.

    Args:
        names: one per site.
        class_names: of the task.
        indices: for each site and split, positions in the pooled labels, ascending.
        labels: pooled over the source's splits, (n,), classes of the task.
        make_images: function (site, positions) -> float32 images as the network sees them.
        checksums: of the data, as the source states them.
        scanners: drawn appearance parameters per site, empty without a shift.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    indices: tuple[Mapping[Split, Indices], ...]
    labels: Indices
    make_images: Callable[[int, Indices], NDArray[np.float32]]
    checksums: Mapping[str, str]
    scanners: tuple[Mapping[str, Any], ...] = ()
    _cache: dict[tuple[int, Split], Examples] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def examples(self, site: int, split: Split) -> Examples:
        """Return a site's examples; made once, then kept."""
        if (site, split) not in self._cache:
            chosen = self.indices[site][split]
            self._cache[site, split] = Examples(self.make_images(site, chosen), self.labels[chosen])
        return self._cache[site, split]

    def class_counts(self, site: int, split: Split) -> Indices:
        """Return examples per class, (class,)."""
        return np.bincount(self.labels[self.indices[site][split]], minlength=len(self.class_names))

    def table(self) -> list[dict[str, Any]]:
        """Return for each site its name and its examples per split and class, as plain data."""
        return [
            {"name": name, **{split: self.class_counts(site, split).tolist() for split in SPLITS}}
            for site, name in enumerate(self.names)
        ]


def form(
    dataset: Dataset,
    *,
    class_names: tuple[str, ...],
    label_map: Mapping[int, int] | None,
    num_sites: int,
    partition: Partition,
    held_out: Mapping[Split, float] | None,
    appearance: Scanner | None,
    normalisation: Normalisation,
    streams: Streams,
) -> Population:
    """Give every example to one site and one split.

    Args:
        dataset: an opened source.
        class_names: of the task.
        label_map: class of the source -> class of the task.
        num_sites: how many sites.
        partition: who gets what.
        held_out: shares of validation and test per site; None keeps the source's own splits.
        appearance: scanner shift per site.
        normalisation: what the network sees.
        streams: the scenario's random streams.

    Raises:
        DataError: if there are too few examples.
    """
    pools = list(dataset.labels)
    offsets = dict(zip(pools, _starts([len(dataset.labels[p]) for p in pools]), strict=True))
    labels = np.concatenate([dataset.labels[p] for p in pools]).astype(np.int64)
    if label_map is not None:
        labels = np.array([label_map[c] for c in range(max(label_map) + 1)], np.int64)[labels]
    rng = streams.numpy("partition")
    sites: list[Mapping[Split, Indices]]
    if held_out is None:
        by_split: dict[str, Indices] = {
            s: labels[offsets[s] : offsets[s] + len(dataset.labels[s])] for s in SPLITS
        }
        parts = partition.split(by_split, num_sites, len(class_names), rng)
        sites = [{s: part[s] + offsets[s] for s in SPLITS} for part in parts]
    else:
        parts = partition.split({"all": labels}, num_sites, len(class_names), rng)
        sites = [
            hold_out(part["all"], labels, held_out, streams.numpy("held_out", site=site))
            for site, part in enumerate(parts)
        ]

    def make_images(site: int, positions: Indices) -> NDArray[np.float32]:
        parts = []
        for pool in pools:
            start, stop = offsets[pool], offsets[pool] + len(dataset.labels[pool])
            inside = positions[(positions >= start) & (positions < stop)]
            parts.append(dataset.images(pool, inside - start))
        images = np.concatenate(parts)
        if appearance is not None:
            images = appearance.apply(images, site, positions, streams)
        return normalisation.apply(images)

    width = len(str(num_sites - 1))
    return Population(
        names=tuple(f"site-{site:0{max(2, width)}d}" for site in range(num_sites)),
        class_names=class_names,
        indices=tuple(sites),
        labels=labels,
        make_images=make_images,
        checksums=dataset.checksums,
        scanners=tuple(appearance.describe(site, streams) for site in range(num_sites))
        if appearance is not None
        else (),
    )


def hold_out(
    positions: Indices, labels: Indices, shares: Mapping[Split, float], rng: np.random.Generator
) -> dict[Split, Indices]:
    """Divide one site's examples into train, validation and test, stratified by class.

    Args:
        positions: the site's examples, (n,), ascending.
        labels: pooled labels.
        shares: of validation and test.
        rng: the site's own stream.
    """
    result: dict[Split, Indices] = {}
    left = 1.0
    for split in ("test", "validation"):
        chosen = systematic(labels[positions], shares[split] / left, rng)
        result[split] = positions[chosen]
        positions = np.delete(positions, chosen)
        left -= shares[split]
    return {"train": positions, "validation": result["validation"], "test": result["test"]}


def systematic(labels: Indices, share: float, rng: np.random.Generator) -> Indices:
    """Draw a share of the examples, stratified by class.

    Systematic sampling along the examples in random order within the order of their classes: up to
    one example, the sample has its share of all and of every class.

    Args:
        labels: (n,).
        share: from 0 to 1.
        rng: source of order and start.

    Returns:
        The chosen positions, ascending.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    ticks = np.floor(np.arange(len(order) + 1) * share + rng.random())
    return np.sort(order[np.diff(ticks) > 0])


def _starts(sizes: list[int]) -> list[int]:
    return [0, *np.cumsum(sizes[:-1]).tolist()]
