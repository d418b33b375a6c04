"""The sites of a study: who holds which examples for training, validation and test.

The index sets are formed from labels alone; images are made when a site is first used and then
kept, shifted by the site's scanner and normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.data.appearance import Appearance
from fedsim.data.label_noise import LabelNoise
from fedsim.data.normalisation import Normalisation
from fedsim.data.partition import ByColumn, Partition
from fedsim.data.source import PATIENT, SPLITS, Dataset, Split, Texts
from fedsim.data.units import Units, check_patients, check_sites
from fedsim.seeds import Streams

Indices = NDArray[np.int64]
Pixels = Callable[[Indices], NDArray[np.uint8]]
"""Indices, (n,), -> images, (n, channel, height, width), uint8."""

SERVER, SERVER_NAME = -1, "server"
"""What stands in place of a site's number and name where the server holds what no site does."""
SITES_COUNTED = 1000
"""Sites whose examples are counted where there may be too many to count."""


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
class ExternalSet:
    """Images that no site trains on: a site held out as a whole, or a test set from elsewhere.

    Args:
        name: of the site or set.
        labels: (n,), classes of the task.
        patients: whose image each is, (n,), or None if that is not known.
        raw: function of indices -> uint8 images as the source has them.
        pixels: function of indices -> uint8 images as the site's scanner shows them.
        normalisation: what the network sees.
    """

    name: str
    labels: Indices
    patients: Texts | None
    raw: Pixels
    pixels: Pixels
    normalisation: Normalisation

    def examples(self) -> Examples:
        """Return all of it."""
        pixels = self.pixels(np.arange(len(self.labels)))
        return Examples(self.normalisation.apply(pixels), self.labels)


@dataclass(frozen=True)
class Population:
    """All sites of a study.

    Args:
        names: one per site.
        class_names: of the task.
        indices: for each site and split, positions in the pooled labels, ascending; maybe drawn
            at every look.
        labels: pooled over the source's splits, (n,), classes of the task as the sites know them.
        pixels: function of positions -> uint8 images as the source has them.
        shown: function (holder, positions) -> uint8 images as the holder's scanner shows them.
        normalisation: what the network sees of them.
        checksums: of the data, as the source states them.
        columns: what else is known: column -> pooled values, (n,), text.
        external: what no site trains on.
        looks: appearance parameters by site (external ones too), empty without a shift and where
            sites are drawn.
        num_mislabelled: training examples with a wrong label by site, empty without label noise.
        server: where sites draw their training examples when they are looked at, what they draw
            from and all that is held out; None where every site has its own.
    """

    names: Sequence[str]
    class_names: tuple[str, ...]
    indices: Sequence[Mapping[Split, Indices]]
    labels: Indices
    pixels: Pixels
    shown: Callable[[int, Indices], NDArray[np.uint8]]
    normalisation: Normalisation
    checksums: Mapping[str, str]
    columns: Mapping[str, Texts] = field(default_factory=dict)
    external: tuple[ExternalSet, ...] = ()
    looks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    num_mislabelled: Mapping[str, int] = field(default_factory=dict)
    server: Mapping[Split, Indices] | None = None
    _cache: dict[tuple[int, Split], Examples] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def holders(self) -> Sequence[int]:
        """Who has validation and test images: every site its own, or `SERVER` all of them."""
        return range(len(self)) if self.server is None else (SERVER,)

    def name(self, holder: int) -> str:
        """Return the name of a site, or of the server."""
        return SERVER_NAME if holder == SERVER else self.names[holder]

    def held(self, holder: int) -> Mapping[Split, Indices]:
        """Return the positions that a site holds, or the server."""
        if holder == SERVER and self.server is not None:
            return self.server
        return self.indices[holder]

    @property
    def tried(self) -> Sequence[int]:
        """Whose images are tried before a run: all, or the server and the first drawn site."""
        return range(len(self)) if self.server is None else (SERVER, 0)

    def keeps(self, holder: int) -> bool:
        """Return whether examples are kept once they are made: of all but drawn sites."""
        return holder in self.holders

    def sizes(self) -> list[int]:
        """Return the training examples of each site; of drawn sites, of the first 1,000."""
        counted = range(len(self))[: None if self.server is None else SITES_COUNTED]
        return [len(self.indices[site]["train"]) for site in counted]

    def num_images(self) -> int:
        """Return how many images the `holders` have together."""
        return sum(len(held) for holder in self.holders for held in self.held(holder).values())

    def make_images(self, holder: int, positions: Indices) -> NDArray[np.float32]:
        """Return images as the network sees them."""
        return self.normalisation.apply(self.shown(holder, positions))

    def examples(self, holder: int, split: Split) -> Examples:
        """Return the examples of a site or the server; made once, then kept if it `keeps` them."""
        if (holder, split) in self._cache:
            return self._cache[holder, split]
        chosen = self.held(holder)[split]
        examples = Examples(self.make_images(holder, chosen), self.labels[chosen])
        if self.keeps(holder):
            self._cache[holder, split] = examples
        return examples

    def provide(self, site: int, split: Split, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Take a site's examples as another process made them, in place of making them here."""
        if (site, split) not in self._cache:
            self._cache[site, split] = Examples(images, labels)

    def patients(self, holder: int, split: Split) -> Texts | None:
        """Return whose image each of the examples is, or None if that is not known."""
        known = self.columns.get(PATIENT)
        return None if known is None else known[self.held(holder)[split]]

    def class_counts(self, holder: int, split: Split) -> Indices:
        """Return examples per class, (class,)."""
        chosen = self.held(holder)[split]
        return np.bincount(self.labels[chosen], minlength=len(self.class_names))

    def table(self) -> list[dict[str, Any]]:
        """Return for each of the `holders` its name and its examples per split and class.

        Where sites draw their training examples, those of the server are what they draw from.
        """
        return [
            {
                "name": self.name(holder),
                **{split: self.class_counts(holder, split).tolist() for split in SPLITS},
            }
            for holder in self.holders
        ]

    def external_table(self) -> list[dict[str, Any]]:
        """Return for each external set its name and its examples per class, as plain data."""
        num = len(self.class_names)
        return [
            {"name": part.name, "test": np.bincount(part.labels, minlength=num).tolist()}
            for part in self.external
        ]


def form(
    dataset: Dataset,
    *,
    class_names: tuple[str, ...],
    label_map: Mapping[int, int] | None,
    names: Sequence[str],
    partition: Partition,
    shares: Mapping[Split, float],
    normalisation: Normalisation,
    streams: Streams,
    appearance: Appearance | None = None,
    label_noise: Iterable[LabelNoise] = (),
    held_out_sites: Iterable[str] = (),
) -> Population:
    """Give every example to one site and one split.

    Args:
        dataset: an opened source.
        class_names: of the task.
        label_map: class of the source -> class of the task.
        names: of the sites, also of those that are held out.
        partition: who gets what.
        shares: of each site's examples for validation or test; a split without a share is the
            source's own.
        normalisation: what the network sees.
        streams: the scenario's random streams.
        appearance: shift per site.
        label_noise: mistakes in training labels.
        held_out_sites: sites that do not train; all their examples become an external set.

    Raises:
        DataError: if there are too few examples, or a patient is in two splits or at two sites.
    """
    pooled = Pooled.of(dataset, label_map)
    placed = place(pooled, len(names), len(class_names), partition, shares, streams)

    def pixels_at(site: int, positions: Indices) -> NDArray[np.uint8]:
        images = pooled.pixels(positions)
        if appearance is None:
            return images
        return appearance.apply(images, site, names[site], positions, streams)

    def set_apart(site: int) -> ExternalSet:
        positions = np.sort(np.concatenate(list(placed[site].values())))
        patients = pooled.columns.get(PATIENT)
        return ExternalSet(
            names[site],
            pooled.labels[positions],
            None if patients is None else patients[positions],
            lambda chosen: pooled.pixels(positions[chosen]),
            lambda chosen: pixels_at(site, positions[chosen]),
            normalisation,
        )

    apart = set(held_out_sites)
    stay = [site for site, name in enumerate(names) if name not in apart]
    train = {site: placed[site]["train"] for site in stay}
    labels = pooled.labels.copy()
    num_mislabelled: dict[str, int] = {}
    for noise in label_noise:
        num_mislabelled |= _mislabel(noise, labels, train, names, len(class_names), streams)
    return Population(
        names=tuple(names[site] for site in stay),
        class_names=class_names,
        indices=tuple(placed[site] for site in stay),
        labels=labels,
        pixels=pooled.pixels,
        shown=lambda site, chosen: pixels_at(stay[site], chosen),
        normalisation=normalisation,
        checksums=dataset.checksums,
        columns=pooled.columns,
        external=tuple(set_apart(site) for site, name in enumerate(names) if name in apart),
        looks={name: appearance.describe(site, name, streams) for site, name in enumerate(names)}
        if appearance is not None
        else {},
        num_mislabelled=num_mislabelled,
    )


@dataclass(frozen=True)
class Pooled:
    """A source's splits in one row.

    Args:
        starts: split -> its first position.
        labels: (n,), classes of the task.
        columns: column -> (n,), text.
        pixels: function of positions -> uint8 images.
    """

    starts: Mapping[str, int]
    labels: Indices
    columns: Mapping[str, Texts]
    pixels: Pixels

    @classmethod
    def of(cls, dataset: Dataset, label_map: Mapping[int, int] | None) -> Pooled:
        """Join the splits of an opened source and map its classes to those of the task."""
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
        return cls(starts, labels, columns, pixels)

    def positions(self, split: str) -> Indices:
        """Return the positions of a split."""
        bounds = [*self.starts.values(), len(self.labels)]
        number = list(self.starts).index(split)
        return np.arange(bounds[number], bounds[number + 1])


def place(
    pooled: Pooled,
    num_sites: int,
    num_classes: int,
    partition: Partition,
    shares: Mapping[Split, float],
    streams: Streams,
) -> list[Mapping[Split, Indices]]:
    """Return for each site and split the positions of its examples, whole patients together.

    Raises:
        DataError: as `form`.
    """
    own = [split for split in SPLITS if split in pooled.starts and split not in shares]
    rest = [split for split in pooled.starts if split not in own or split == "train"]
    divided: dict[Split, Indices] = {"train": np.concatenate([pooled.positions(s) for s in rest])}
    divided |= {split: pooled.positions(split) for split in own if split != "train"}
    columns = {s: {n: v[at] for n, v in pooled.columns.items()} for s, at in divided.items()}
    if all(PATIENT in known for known in columns.values()):
        check_patients({split: known[PATIENT] for split, known in columns.items()})
        if isinstance(partition, ByColumn):
            for known in columns.values():
                check_sites(known[PATIENT], known[partition.column], partition.column)
    units = {
        split: Units.of(pooled.labels[at], columns[split], num_classes)
        for split, at in divided.items()
    }
    parts = partition.split(
        {split: part.labels for split, part in units.items()},
        num_sites,
        num_classes,
        streams.numpy("partition"),
        {
            name: {s: u.columns[name] for s, u in units.items() if name in u.columns}
            for name in pooled.columns
        },
    )
    sites: list[Mapping[Split, Indices]] = []
    for site, part in enumerate(parts):
        rng = streams.numpy("held_out", site=site)
        own_part = hold_out(part["train"], units["train"].labels, shares, rng)
        chosen: dict[Split, tuple[Split, Indices]] = {s: (s, part[s]) for s in divided}
        chosen |= {s: ("train", units_of) for s, units_of in own_part.items()}
        sites.append(
            {split: divided[s][units[s].examples(at)] for split, (s, at) in chosen.items()}
        )
    return sites


def _mislabel(
    noise: LabelNoise,
    labels: Indices,
    train: Mapping[int, Indices],
    names: Sequence[str],
    num_classes: int,
    streams: Streams,
) -> dict[str, int]:
    """Change training labels in place and return how many by site."""
    counts = {}
    for site, positions in train.items():
        if noise.sites is None or names[site] in noise.sites:
            before = labels[positions]
            rng = streams.numpy(f"label_noise_{noise.kind}", site=site)
            labels[positions] = noise.mislabel(before, num_classes, rng)
            counts[names[site]] = int((labels[positions] != before).sum())
    return counts


def hold_out(
    positions: Indices, labels: Indices, shares: Mapping[Split, float], rng: np.random.Generator
) -> dict[Split, Indices]:
    """Divide one site's examples (or patients) into train and held-out splits, by class.

    Args:
        positions: the site's examples, (n,), ascending.
        labels: pooled labels.
        shares: of validation and test; no share, no split.
        rng: the site's own stream.
    """
    result: dict[Split, Indices] = {}
    left = 1.0
    for split in sorted(shares):
        chosen = systematic(labels[positions], shares[split] / left, rng)
        result[split] = positions[chosen]
        positions = np.delete(positions, chosen)
        left -= shares[split]
    return {"train": positions, **result}


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
