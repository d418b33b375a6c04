"""Sites that keep their images to themselves, as the server of a real federation sees them.

The server opens no image of theirs. What it must know before training (names, counts per class,
the form of the images) each site says of itself; what needs the images of several sites in one
place is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn

import numpy as np

from fedsim import environment
from fedsim.data.partition import ByColumn
from fedsim.data.population import Population
from fedsim.data.source import SPLITS, Dataset, Facts, Source, in_natural_order
from fedsim.errors import DataError, InputError
from fedsim.scenario import Problem, Scenario, UnmetError, broken, completed
from fedsim.seeds import Streams

Introduction = Mapping[str, Any]
"""What a site says of itself; see `fedsim.flower.own_data.introduce`."""
log = logging.getLogger("fedsim")


class AtTheSites(Source):
    """Images that the server cannot open.

    Args:
        known: of them, from what the sites said.
    """

    kind: Literal["at_the_sites"] = "at_the_sites"
    known: Facts

    def facts(self) -> Facts:
        """Return what the sites said."""
        return self.known

    def open(self, streams: Streams) -> Dataset:
        """Refuse."""
        _unseen()


def unsuited(scenario: Scenario) -> Iterator[Problem]:
    """Yield what a federation of sites that keep their images cannot do, with the way out."""
    source, sites = scenario.data.source, scenario.population
    if source.kind not in ("images", "npz"):
        yield Problem(
            ("data", "source", "kind"),
            f"{source.kind} has no part for one site alone: unpack it (fedsim data unpack), give "
            "every site its own folder, and use images or npz",
        )
    elif getattr(source, "class_names", None) is None:
        yield Problem(
            ("data", "source", "class_names"),
            "is required: no site can know the labels of the others",
        )
    if getattr(source, "root", None) is not None:
        yield Problem(
            ("data", "source", "root"), "is each site's own matter here: leave this key out"
        )
    if not isinstance(sites.partition, ByColumn):
        yield Problem(
            ("population", "partition", "kind"),
            f"{sites.partition.kind} divides the images of all sites, so it needs them in one "
            "place: it is for simulation; sites that hold their own are by_column",
        )
    if sites.appearance is not None:
        yield Problem(("population", "appearance"), "is for simulation: sites have real scanners")
    if sites.label_noise:
        yield Problem(("population", "label_noise"), "is for simulation: sites have real labels")
    if sites.supervision:
        yield Problem(
            ("population", "supervision"),
            "is for simulation: it takes labels from sites that have them",
        )
    if getattr(scenario.client.objective, "prior", "site") == "population":
        yield Problem(
            ("client", "objective", "prior"),
            "no site knows the labels of the others: use site",
        )
    if sites.adversaries:
        yield Problem(
            ("population", "adversaries"),
            "is for simulation: it would tell real sites to attack their own study",
        )
    for key in ("devices", "outages"):
        if getattr(sites, key):
            yield Problem(("population", key), "is for simulation: sites have real computers")
    if sites.holdout_sites:
        yield Problem(
            ("population", "holdout_sites"),
            "needs a site's images at the server: start no SuperNode there, and give its images as "
            "evaluation.external",
        )
    keeps = scenario.client.personalisation
    if scenario.model.weights is not None and keeps is not None and keeps.keeps_parameters:
        yield Problem(
            ("model", "weights"),
            f"are the server's, and what {keeps.kind} keeps to the sites is never sent: leave this "
            "key out",
        )
    if scenario.privacy is not None:
        yield Problem(
            ("privacy",),
            "is for simulation: its noise comes from the scenario's seed, which server and sites "
            "all know, so it would protect nobody here",
        )
    if scenario.evaluation.loss_decomposition:
        yield Problem(
            ("evaluation", "loss_decomposition"),
            "looks at the training images of all sites in one place: set it to false",
        )
    if scenario.baselines:
        yield Problem(
            ("baselines",), "train at the server on images of the sites: leave this key out"
        )


def told(
    scenario: Scenario, sites: Sequence[Introduction], devices: Sequence[str]
) -> tuple[Scenario, Population]:
    """Return scenario and sites as the server can know them.

    Args:
        scenario: as its author wrote it.
        sites: what each says of itself, by number.
        devices: torch's names of those that compute here.

    Raises:
        InputError: if what they say does not make one study.
    """
    facts = _facts(scenario, sites)
    source = AtTheSites(known=facts)
    scenario = scenario.model_copy(
        update={"data": scenario.data.model_copy(update={"source": source})}
    )
    if problems := broken(scenario):
        raise UnmetError(scenario.name, problems)
    here = environment.describe(devices)
    for site in sites:
        if changed := environment.differences(here, site["environment"]):
            what = "; ".join(changed)
            log.warning("%s: bits may differ from a simulation here: %s", site["name"], what)
    return scenario, completed(scenario, _population(scenario, sites))


def duplicates(sites: Sequence[Introduction]) -> dict[str, Any]:
    """Return how often sites hold an image twice; whether two hold the same one, none can know."""
    found = [site["duplicates"] for site in sites]
    counts = ("num_groups", "across_splits", "across_labels")
    return {
        **{name: sum(one[name] for one in found) for name in counts},
        "across_sites": None,
        "examples": [example for one in found for example in one["examples"]],
    }


def _facts(scenario: Scenario, sites: Sequence[Introduction]) -> Facts:
    names = tuple(str(site["name"]) for site in sites)
    if names != (expected := in_natural_order(names)):
        raise InputError(
            f"sites 0 to {len(names) - 1} call themselves {', '.join(names)}, expected different "
            f"names in their natural order, {', '.join(expected)}: change partition-id"
        )
    forms = {(site["num_channels"], site["image_size"]) for site in sites}
    if len(forms) > 1:
        said = "; ".join(f"{s['name']} {s['num_channels']} x {s['image_size']}" for s in sites)
        raise InputError(f"images differ in channels or size (channels x pixels): {said}")
    splits = {split for site in sites for split in site["num_examples"]}
    if "all" in splits and len(splits) > 1:
        raise InputError("some sites have splits of their own and some have none")
    ((num_channels, image_size),) = forms
    source: Any = scenario.data.source
    partition: Any = scenario.population.partition
    return Facts(
        num_channels=num_channels,
        image_size=image_size,
        class_names=source.class_names,
        ordinal=source.ordinal,
        num_examples={s: sum(site["num_examples"].get(s, 0) for site in sites) for s in splits},
        licence=source.licence,
        citation=source.citation,
        columns={partition.column: names},
        targets=dict.fromkeys(source.targets, ""),
    )


def _population(scenario: Scenario, sites: Sequence[Introduction]) -> Population:
    """Return sites of these counts; nobody can look at their images."""
    classes = np.arange(len(scenario.data.classes))
    labels, indices, start = [], [], 0
    for site in sites:
        held = {}
        for split in SPLITS:
            labels.append(np.repeat(classes, site["counts"][split]))
            held[split] = np.arange(start, start + len(labels[-1]))
            start += len(labels[-1])
        indices.append(held)
    return Population(
        names=tuple(site["name"] for site in sites),
        class_names=scenario.data.classes,
        indices=tuple(indices),
        labels=np.concatenate(labels),
        pixels=_unseen,
        shown=_unseen,
        normalisation=scenario.data.normalisation,
        checksums={
            f"{site['name']}/{name}": value
            for site in sites
            for name, value in site["checksums"].items()
        },
    )


def _unseen(*_: Any) -> NoReturn:
    raise DataError("the images are at the sites; the server cannot open them")
