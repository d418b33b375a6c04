"""From a population whose sites know all their labels to one whose sites know what they may.

What a site does not know is gone from its population: labels are kept apart for test images alone,
by which the simulator judges the model, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from clients.batch import UNKNOWN
from fedsim.data.aggregates import Knowledge
from fedsim.data.bag_draws import Shown
from fedsim.data.population import Indices, Population
from fedsim.data.source import Split
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
    labels, indices = population.labels.copy(), list(population.indices)
    knowledge, hidden = dict[int, Knowledge](), dict[str, Indices]()
    for site, kind in by_site.items():
        taught = _teach(population, site, kind, streams)
        held = dict(population.indices[site])
        for split in KNOWN:
            labels[held[split]] = taught.labels[split]
            if split in taught.chosen:
                held[split] = held[split][taught.chosen[split]]
        hidden[population.names[site]] = population.labels[held["test"]]
        labels[held["test"]] = UNKNOWN
        knowledge[site], indices[site] = taught.knowledge, held
    return replace(
        population, labels=labels, indices=tuple(indices), knowledge=knowledge, hidden=hidden
    )


def sites_of(supervision: Sequence[Supervision], names: Sequence[str]) -> Mapping[int, Supervision]:
    """Return site -> what it knows, but for sites that plainly know all labels."""
    named = {name: part for part in supervision if part.sites != "rest" for name in part.sites}
    rest = next((part for part in supervision if part.sites == "rest"), Labels())
    found = {site: named.get(name, rest) for site, name in enumerate(names)}
    return {site: part for site, part in found.items() if not part.tells_all}


def _teach(population: Population, site: int, supervision: Supervision, streams: Streams) -> Taught:
    held = {
        split: Held(
            population.labels[at],
            Shown(
                len(at),
                {name: values[at] for name, values in population.columns.items()},
                partial(population.pixels, at),
            ),
        )
        for split, at in population.indices[site].items()
        if split in KNOWN
    }
    return supervision.teach(held, len(population.class_names), partial(streams.numpy, site=site))
