"""From a population whose sites know all their labels to one whose sites know what they may.

What a site does not know is gone from its population: labels, or the real numbers that are learned
and the classes that go with them. Labels are kept apart for test images alone, by which the
simulator judges the model, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.batch import UNKNOWN
from fedsim.data.aggregates import Hidden, Knowledge, is_known, unknown
from fedsim.data.bag_draws import Shown
from fedsim.data.population import Indices, Population
from fedsim.data.source import SPLITS, Numbers, Split
from fedsim.data.supervision import Held, Labels, Supervision, Taught
from fedsim.seeds import Streams

KNOWN: tuple[Split, ...] = ("train", "validation")
"""Splits that a site itself uses."""


def supervise(
    population: Population, supervision: Sequence[Supervision], streams: Streams
) -> Population:
    """Return the population with what its sites know of their labels.

    Args:
        population: with all labels.
        supervision: each names its sites; sites that none names know all labels.
        streams: the scenario's random streams.
    """
    by_site = sites_of(supervision, population.names)
    truths: NDArray[Any] = population.truths.copy()
    indices = list(population.indices)
    knowledge, hidden = dict[int, Knowledge](), dict[str, Hidden]()
    for site, kind in by_site.items():
        taught = _teach(population, site, kind, streams)
        held = dict(population.indices[site])
        for split in KNOWN:
            at, used = held[split], taught.chosen.get(split, slice(None))
            truths[at] = unknown(truths[at])
            truths[at[used]] = taught.labels[split][used]
            held[split] = at[used]
        test = truths[held["test"]]
        truths[held["test"]] = unknown(test)
        hidden[population.names[site]] = Hidden(
            test, _counts(population, truths, held), taught.truncated
        )
        knowledge[site], indices[site] = taught.knowledge, held
    known: dict[str, Any] = {"indices": tuple(indices), "knowledge": knowledge, "hidden": hidden}
    if population.targets is None:
        return replace(population, labels=truths, **known)
    labels = np.where(is_known(truths), population.labels, UNKNOWN)
    return replace(population, labels=labels, targets=truths, **known)


def sites_of(supervision: Sequence[Supervision], names: Sequence[str]) -> Mapping[int, Supervision]:
    """Return site -> what it knows, but for sites that plainly know all labels."""
    named = {name: part for part in supervision if part.sites != "rest" for name in part.sites}
    rest = next((part for part in supervision if part.sites == "rest"), Labels())
    found = {site: named.get(name, rest) for site, name in enumerate(names)}
    return {site: part for site, part in found.items() if not part.tells_all}


def _counts(
    population: Population, truths: Indices | Numbers, held: Mapping[Split, Indices]
) -> dict[Split, Indices]:
    """Return examples per class, (class,), of the splits whose labels a site does not know."""
    num = len(population.class_names)
    return {
        split: np.bincount(population.labels[held[split]], minlength=num)
        for split in SPLITS
        if not is_known(truths[held[split]]).any()
    }


def _teach(population: Population, site: int, supervision: Supervision, streams: Streams) -> Taught:
    held = {
        split: Held(
            population.labels[at],
            Shown(
                len(at),
                {name: values[at] for name, values in population.columns.items()},
                partial(population.pixels, at),
            ),
            None if population.targets is None else population.targets[at],
        )
        for split, at in population.indices[site].items()
        if split in KNOWN
    }
    return supervision.teach(held, len(population.class_names), partial(streams.numpy, site=site))
