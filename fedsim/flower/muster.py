"""From a scenario to its fleet: devices assigned, the cost of a training step measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from clients.batch import Batch
from clients.precision import Precision
from clients.training import Plan
from fedsim.data.population import Population
from fedsim.fleet.assignment import assign
from fedsim.fleet.fleet import Fleet, plan_for
from fedsim.fleet.footprint import Footprint, measure
from fedsim.flower import wire
from fedsim.flower.regularised import rehearse
from fedsim.flower.workplace import Workplace
from fedsim.privacy.dp_sgd import DpSgdMechanism
from fedsim.scenario import Scenario
from fedsim.scenario.messages import Problem, UnmetError
from fedsim.seeds import Streams

MEASURED = (4, 8)
"""Examples of the two steps whose cost is measured; it is a straight line in between and beyond."""


def muster(workplace: Workplace) -> Fleet:
    """Return the fleet of a scenario; without devices nothing is measured.

    Raises:
        UnmetError: if a site's device cannot hold what it trains with.
    """
    scenario, population = workplace.scenario, workplace.population
    groups = scenario.population.devices
    precisions: set[Precision] = {group.precision for group in groups}
    fleet = Fleet(
        names=population.names,
        num_examples=lambda site: len(population.indices[site]["train"]),
        num_bags=lambda site: population.num_bags(site, "train"),
        plan=scenario.client.plan,
        groups=groups,
        group_of=assign(groups, population.names, workplace.streams)
        if groups
        else np.empty(0, np.int64),
        footprints={p: footprint(workplace, p) for p in sorted(precisions)},
        fit=scenario.client.batch == "fit",
        num_bytes=message_bytes(workplace),
        outages=scenario.population.outages,
        streams=workplace.streams,
        samples=_dp_sgd(scenario) is not None,
    )
    if problems := [*_memory(fleet), *_parts(fleet, workplace.network.module)]:
        raise UnmetError(scenario.name, problems)
    return fleet


def message_bytes(workplace: Workplace) -> int:
    """Return the bytes of all arrays that a site is sent in a round; as many come back."""
    network = workplace.network
    sent = {n: t for n, t in network.initial.items() if n not in network.private}
    parameters = {n: t for n, t in sent.items() if n in network.shared}
    regulariser = workplace.scenario.client.regulariser
    beside = 0 if regulariser is None else max(len(regulariser.receives), len(regulariser.sends))
    model, more = (wire.arrays_bytes(wire.to_arrays(part)) for part in (sent, parameters))
    return model + beside * more


def local_plans(scenario: Scenario, population: Population, num: int) -> list[Plan]:
    """Return what each of the first sites does in a round; whether its device can is left open."""
    groups, usual = scenario.population.devices, scenario.client.plan
    if not groups:
        return [usual] * num
    found = assign(groups, population.names, Streams(scenario.seed))[:num]
    return [plan_for(groups[group], usual) for group in found]


def device_names(scenario: Scenario, population: Population) -> dict[str, str]:
    """Return what each site runs on, empty without devices."""
    groups = scenario.population.devices
    if not groups:
        return {}
    found = assign(groups, population.names, Streams(scenario.seed))
    return {name: groups[group].name for name, group in zip(population.names, found, strict=True)}


def footprint(workplace: Workplace, precision: Precision) -> Footprint:
    """Return what a training step of the scenario's network costs, from two steps on blank images.

    The network's weights change; every training loads its own.
    """
    facts = workplace.scenario.data.source.facts()
    num = max(MEASURED)
    shape, population = (num, *facts.image_shape), workplace.population
    labels = (np.arange(num) % len(population.class_names)).astype(population.truths.dtype)
    blank = Batch(
        torch.zeros(shape, device=workplace.device),
        torch.from_numpy(labels).to(workplace.device),
    )
    network, personalisation = workplace.network, workplace.scenario.client.personalisation
    network.load(network.initial)
    optimizer = workplace.optimizer(1)

    def step(size: int) -> None:
        plan = Plan(size, steps=1, precision=precision)
        rehearse(workplace, blank[:size], optimizer, plan)

    found = measure(network.module, optimizer, MEASURED, step)
    if (private := _dp_sgd(workplace.scenario)) is not None:
        num_trained = sum(p.numel() for p in network.module.parameters() if p.requires_grad)
        copies = private.num_augmentations
        found = found.clipping_each(
            num_trained, copies, max(1, private.max_physical_batch // copies)
        )
    beside = personalisation is not None and personalisation.beside is not None
    return replace(found, num_models=1 + beside)


def _dp_sgd(scenario: Scenario) -> DpSgdMechanism | None:
    """Return what makes the steps of sites private, None if nothing does."""
    mechanism = None if scenario.privacy is None else scenario.privacy.mechanism
    return mechanism if isinstance(mechanism, DpSgdMechanism) else None


def _memory(fleet: Fleet) -> Iterator[Problem]:
    for number, group in enumerate(fleet.groups):
        largest = fleet.largest_batch(group)
        size, site = max(
            (
                (max(fleet.batch_sizes(site), default=0), site)
                for site in map(int, np.flatnonzero(fleet.group_of == number))
            ),
            default=(0, 0),
        )
        size = fleet.footprint(group).at_once(size)
        if size <= largest or (largest and fleet.fit):
            continue
        needed = fleet.footprint(group).memory(size if not fleet.fit else 1)
        fits = f"the largest batch that fits is {largest}: give it as "
        way_out = (
            fits + "privacy.mechanism.max_physical_batch, times num_augmentations"
            if largest and fleet.samples
            else fits + "batch_size here, or say client.batch: fit"
            if largest
            else "not even a batch of one fits: give these sites a larger device, or use a smaller "
            "model"
        )
        yield Problem(
            ("population", "devices", number),
            f"{fleet.names[site]} on {group.name} would train on {size} images at a time, which "
            f"take about {needed / 1e9:.3g} GB (estimated) of its {group.device.memory_gb:g}; "
            f"{way_out}",
        )


def _parts(fleet: Fleet, model: nn.Module) -> Iterator[Problem]:
    """Batch normalisation sees whole batches: gradients of parts are those of another network."""
    normalised = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    if not normalised:
        return
    for number, group in enumerate(fleet.groups):
        sites = np.flatnonzero(fleet.group_of == number)
        if len(sites) and fleet.plan_of(int(sites[0])).part_size is not None:
            yield Problem(
                ("client", "batch"),
                f"this network normalises over batches, so it cannot train on parts of one, and "
                f"{group.name} holds {fleet.largest_batch(group)} images: use batch: whole with a "
                "smaller batch_size, or a network without batch normalisation",
            )
