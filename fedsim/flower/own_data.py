"""A site that has its own images and knows of no other site's: what a SuperNode works with.

It opens what lies in its own folder as the scenario's source says, and forms the same splits as a
simulation that holds the images of all sites: the same order, the same random streams.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedsim import environment
from fedsim.data.apportioning import IntArray
from fedsim.data.divided_sites import form
from fedsim.data.duplicates import look_at
from fedsim.data.partition import NO_COLUMNS, ByColumn, Partition
from fedsim.data.population import Population
from fedsim.data.source import SPLITS, Columns, Facts, Split
from fedsim.errors import DataError
from fedsim.scenario import Scenario, recorded
from fedsim.scenario.scenario import HeldOut
from fedsim.seeds import Streams


@dataclass(frozen=True)
class OwnData:
    """Where a site's images are.

    Args:
        folder: that holds what the scenario's `data.source.path` names, of this site alone.
        site: its number, in the natural order of the sites' names.
        num_sites: of the study.
    """

    folder: Path
    site: int
    num_sites: int


class Alone(Partition):
    """Everything that is here belongs to one site; the others hold nothing here.

    Args:
        site: its number.
    """

    kind: Literal["alone"] = "alone"
    site: int

    def split(
        self,
        labels: Mapping[str, IntArray],
        num_sites: int,
        num_classes: int,
        rng: np.random.Generator,
        columns: Columns = NO_COLUMNS,
    ) -> list[dict[str, IntArray]]:
        """See `Partition.split`; nothing is random."""
        first = next(iter(labels))
        if len(labels[first]) < self.min_examples:
            raise DataError(
                f"partition.min_examples: fewer than {self.min_examples} examples of {first}: ask "
                "for fewer, or leave this site out"
            )
        return [
            {s: np.arange(len(held) if site == self.site else 0) for s, held in labels.items()}
            for site in range(num_sites)
        ]


def read(text: str, own: OwnData) -> Scenario:
    """Return the scenario with the site's own folder in place of the whole data set.

    Test sets from elsewhere and files of weights are the server's and are left out.

    Args:
        text: the scenario that the server sent, JSON.
        own: where the images are.

    Raises:
        ScenarioError: if this version of fedsim cannot read it.
    """
    data = json.loads(text)
    source = data["data"]["source"]
    inside = own.folder / Path(source["path"]).name
    source["path"] = str((inside if inside.exists() else own.folder).resolve())
    data["evaluation"]["external"] = []
    data["model"]["weights"] = None
    return recorded(data, "scenario")


def open_own(scenario: Scenario, own: OwnData) -> Population:
    """Open the site's images; in the population the other sites hold nothing.

    Args:
        scenario: as `read` returns it.
        own: where the images are.

    Raises:
        DataError: if they are missing, damaged, of several sites, or too few.
    """
    streams, sites, source = Streams(scenario.seed), scenario.population, scenario.data.source
    facts = source.facts()
    held_out = sites.held_out
    if missing := [split for split in _official(held_out) if split not in facts.num_examples]:
        raise DataError(
            f"{own.folder}: has no {' and no '.join(missing)} images, which held_out takes from "
            "the publisher's splits"
        )
    return form(
        source.open(streams),
        class_names=scenario.data.classes,
        label_map=scenario.data.label_map,
        names=tuple(
            _name(scenario, facts, own) if site == own.site else f"site {site}"
            for site in range(own.num_sites)
        ),
        partition=Alone(site=own.site, min_examples=_by_column(scenario).min_examples),
        shares=held_out.shares if isinstance(held_out, HeldOut) else {},
        normalisation=scenario.data.normalisation,
        streams=streams,
        target=scenario.data.target,
        predicted=scenario.data.predicted,
    )


def introduce(text: str, own: OwnData, devices: Sequence[str]) -> dict[str, Any]:
    """Return what the site tells the server of itself before anything is trained, as plain data.

    Its name; examples per class of each of its splits, and per split of its source; the form of its
    images; checksums of its files and pixels; how many images it holds twice; its versions and
    hardware.

    Args:
        text: the scenario that the server sent, JSON.
        own: where the images are.
        devices: torch's names of those that compute.

    Raises:
        InputError: if the scenario cannot be read or the images cannot be used.
    """
    scenario = read(text, own)
    population, facts = open_own(scenario, own), scenario.data.source.facts()
    pixels, duplicates = look_at(population)
    return {
        "name": population.names[own.site],
        "counts": {s: population.class_counts(own.site, s).tolist() for s in SPLITS},
        "num_examples": dict(facts.num_examples),
        "num_channels": facts.num_channels,
        "image_size": facts.image_size,
        "checksums": {**population.checksums, "pixels": f"sha256:{pixels}"},
        "duplicates": asdict(duplicates),
        "environment": environment.describe(devices),
    }


def _official(held_out: Literal["official"] | HeldOut) -> tuple[Split, ...]:
    """Return the splits that are the publisher's."""
    if held_out == "official":
        return SPLITS
    return ("test",) if held_out.test == "official" else ()


def _by_column(scenario: Scenario) -> ByColumn:
    partition = scenario.population.partition
    assert isinstance(partition, ByColumn), "the server asks for no other"
    return partition


def _name(scenario: Scenario, facts: Facts, own: OwnData) -> str:
    """Return the site's name, which its images bear.

    Raises:
        DataError: if they bear none, or several.
    """
    names = _by_column(scenario).site_names(facts)
    if len(names) > 1:
        raise DataError(
            f"{own.folder}: holds images of {len(names)} sites ({', '.join(names[:3])}); "
            "data-dir must name a folder with those of one"
        )
    return names[0]
