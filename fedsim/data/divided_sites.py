"""A population among whose sites the examples of a source are divided, each to one site and split.

Index sets are formed from labels and columns alone; images are made when a site is first used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clients.targets import CLASSES, Target
from fedsim.data.appearance import Appearance
from fedsim.data.label_noise import LabelNoise
from fedsim.data.normalisation import Normalisation
from fedsim.data.partition import ByColumn, Partition
from fedsim.data.pooled import Pooled
from fedsim.data.population import ExternalSet, Indices, Population
from fedsim.data.source import PATIENT, SPLITS, Dataset, Split, Texts
from fedsim.data.units import Units, check_patients, check_sites
from fedsim.errors import DataError
from fedsim.seeds import Streams


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
    target: str | None = None,
    predicted: Target = CLASSES,
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
        target: name of the real number that is learned, if it is one.
        predicted: what the network says of an image.
        label_noise: mistakes in training labels.
        held_out_sites: sites that do not train; all their examples become an external set.

    Raises:
        DataError: if there are too few examples, or a patient is in two splits or at two sites.
    """
    pooled = Pooled.of(dataset, label_map, target)
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
            None if pooled.targets is None else pooled.targets[positions],
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
        targets=pooled.targets,
        predicted=predicted,
        external=tuple(set_apart(site) for site, name in enumerate(names) if name in apart),
        looks={name: appearance.describe(site, name, streams) for site, name in enumerate(names)}
        if appearance is not None
        else {},
        num_mislabelled=num_mislabelled,
    )


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
            _settle_patients(partition, columns, shares)
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


def _settle_patients(
    partition: ByColumn,
    columns: Mapping[Split, dict[str, Texts]],
    shares: Mapping[Split, float],
) -> None:
    """Refuse patients at several sites, or make them one at each: their names are changed in place.

    Raises:
        DataError: if they may not be, or a site could train on whom another one tests.
    """
    if partition.patients == "at_one_site":
        for known in columns.values():
            check_sites(known[PATIENT], known[partition.column], partition.column)
        return
    if shares:
        raise DataError(
            "population.held_out: where patients are at several sites, shares that each of them "
            "holds out could put one patient into training here and into test there: give the data "
            "a split column, each patient in one split, and held_out: official"
        )
    for known in columns.values():
        at_site = np.char.add(np.char.add(known[partition.column], "/"), known[PATIENT])
        known[PATIENT] = np.where(known[PATIENT] == "", "", at_site)


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
