"""What a scenario would do, found out without training a round.

Everything that could fail later is tried once: the data of every site, the network, one step of
training, one batch of evaluation, the strategy. Times are estimates from a probe of a few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from clients.batch import Batch
from fedsim import simulate
from fedsim.data.duplicates import Duplicates, look_at
from fedsim.data.population import Population
from fedsim.data.source import Split
from fedsim.engines.inline import repeatable
from fedsim.flower import wire
from fedsim.flower.baselines import trainings
from fedsim.flower.strategy import build
from fedsim.flower.workplace import Workplace
from fedsim.scenario import AllSites, FixedSize, Poisson, Scenario

EVALUATED: tuple[Split, ...] = ("validation", "test")
PROBE_S = 1.5
"""Seconds that a probe of training, and one of evaluation, take at most once warm."""


@dataclass(frozen=True)
class Plan:
    """What would run.

    Args:
        name: of the scenario.
        digest: of the scenario.
        source: kind of the data source.
        images: (channel, height, width).
        licence: of the images.
        sites: as `Population.table` has them.
        external: as `Population.external_table` has them.
        duplicates: equal images.
        num_patients: if patients are known.
        parameters: trainable numbers of the network.
        buffers: other numbers of its state.
        forward_flops: floating-point operations of one image forwards.
        weights: what came of a file of starting weights, if there is one.
        cohort: sites in a round, on average.
        bytes_down: sent to the sites in a round, on average.
        bytes_up: sent back.
        rounds: of the federation.
        steps: fewest and most optimiser steps of a site in a round.
        seconds_round: estimated time of a round without evaluation.
        seconds_evaluation: estimated time of one evaluation of all sites.
        seconds: estimated time of the whole run, baselines included, intervals left out.
        memory: bytes of all images as the network sees them.
        device: that was probed.
        folder: that the run would write to.
        problems: what would fail.
    """

    name: str
    digest: str
    source: str
    images: tuple[int, int, int]
    licence: str
    sites: list[dict[str, Any]]
    external: list[dict[str, Any]]
    duplicates: Duplicates
    num_patients: int | None
    parameters: int
    buffers: int
    forward_flops: int
    weights: str | None
    cohort: float
    bytes_down: float
    bytes_up: float
    rounds: int
    steps: tuple[int, int]
    seconds_round: float
    seconds_evaluation: float
    seconds: float
    memory: int
    device: str
    folder: str
    problems: list[str]

    def as_data(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return asdict(self)


def make(
    scenario: Scenario,
    population: Population,
    *,
    out: str | Path = "runs",
    name: str | None = None,
    device: str = "auto",
) -> Plan:
    """Find out what a run would do; nothing is written, but for the image cache.

    Args:
        scenario: that would run.
        population: its sites.
        out: folder that would get the run folder.
        name: of the run folder.
        device: as in `fedsim.run`.

    Raises:
        InputError: if data, weights, device or strategy cannot be used at all.
    """
    facts, folder = scenario.data.source.facts(), simulate.run_folder(scenario, out, name)
    with repeatable():
        workplace = Workplace(scenario, population, simulate.choose_device(device))
        build(scenario, workplace.buffers)
        sizes = [int(population.class_counts(s, "train").sum()) for s in range(len(population))]
        problems = [*_sites(workplace), *_training(workplace)]
        if folder.exists():
            problems.append(f"{folder} exists already: `fedsim resume {folder}`, or another name")
        step, image = (0.0, 0.0) if problems else _probe(workplace)
    message = wire.to_arrays(workplace.initial)
    num_bytes = sum(len(array.data) for array in message.values())
    cohort = _cohort_size(scenario, len(population))
    steps = [_steps(scenario, size) for size in sizes]
    held_out = [len(site[split]) for site in population.indices for split in EVALUATED]
    held_out += [len(part.labels) for part in population.external]
    per_round = step * sum(steps) * cohort / len(population)
    per_evaluation = image * sum(held_out)
    times = len(range(0, scenario.rounds + 1, scenario.evaluation.every))
    extra = sum(
        step * scenario.rounds * _steps(scenario, sum(sizes[s] for s in training.sites))
        for training in trainings(workplace)
    )
    patients = population.columns.get("patient")
    return Plan(
        name=scenario.name,
        digest=scenario.digest,
        source=scenario.data.source.kind,
        images=(facts.num_channels, facts.image_size, facts.image_size),
        licence=facts.licence,
        sites=population.table(),
        external=population.external_table(),
        duplicates=look_at(population)[1],
        num_patients=None if patients is None else len(set(patients.tolist())),
        parameters=sum(p.numel() for p in workplace.model.parameters()),
        buffers=sum(workplace.initial[b].numel() for b in workplace.buffers),
        forward_flops=_flops(workplace, facts.num_channels, facts.image_size),
        weights=None if workplace.fitted is None else workplace.fitted.text(),
        cohort=cohort,
        bytes_down=cohort * num_bytes,
        bytes_up=cohort * num_bytes,
        rounds=scenario.rounds,
        steps=(min(steps), max(steps)),
        seconds_round=per_round,
        seconds_evaluation=per_evaluation,
        seconds=scenario.rounds * per_round + times * per_evaluation + extra,
        memory=4 * sum(facts.num_examples.values()) * facts.num_channels * facts.image_size**2,
        device=str(workplace.device),
        folder=str(folder),
        problems=problems,
    )


def _sites(workplace: Workplace) -> Iterator[str]:
    """Yield the sites whose images cannot be made."""
    population = workplace.population
    for site, name in enumerate(population.names):
        try:
            population.make_images(site, population.indices[site]["train"][:1])
        except Exception as error:  # whatever a source or an appearance says
            yield f"the images of {name} cannot be made: {error}"


def _training(workplace: Workplace) -> Iterator[str]:
    """Yield why a step of training or a batch of evaluation fails."""
    try:
        batch = _batch(workplace)
        loss = workplace.fit(batch, 1, workplace.optimizer(1))
        if not torch.isfinite(torch.tensor(loss)):
            yield "the first training step gives a loss that is not finite"
        (scores,) = workplace.predict(workplace.snapshot(), batch)
        if not torch.isfinite(scores).all():
            yield "after one round on one batch the network's output is not finite"
    except Exception as error:  # whatever network, objective or device say
        yield f"a training step fails: {type(error).__name__}: {error}"


def _batch(workplace: Workplace) -> Batch:
    """Return a batch of the largest site."""
    population, size = workplace.population, workplace.scenario.client.batch_size
    largest = max(range(len(population)), key=lambda s: len(population.indices[s]["train"]))
    return workplace.examples(largest, "train")[:size]


def _probe(workplace: Workplace) -> tuple[float, float]:
    """Return the seconds of one training step and of the evaluation of one image."""
    batch, plan = _batch(workplace), workplace.scenario.client.plan
    steps = plan.steps or plan.epochs or 1
    train = _seconds(lambda: workplace.fit(batch, 1, workplace.optimizer(1)), workplace.device)
    state = workplace.snapshot()
    evaluate = _seconds(lambda: workplace.predict(state, batch), workplace.device)
    return train / steps, evaluate / len(batch)


def _seconds(do: Callable[[], Any], device: torch.device) -> float:
    """Return the shortest of a few calls, once warm."""
    do()
    times: list[float] = []
    while sum(times) < PROBE_S and len(times) < 20:
        start = time.perf_counter()
        do()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def _cohort_size(scenario: Scenario, num_sites: int) -> float:
    match scenario.cohort:
        case AllSites():
            return float(num_sites)
        case FixedSize(num_sites=some):
            return float(some)
        case Poisson(sampling_rate=rate):
            return rate * num_sites
    return float(num_sites)


def _steps(scenario: Scenario, size: int) -> int:
    """Return the optimiser steps of a site of this size in a round."""
    plan = scenario.client.plan
    if plan.epochs is None:
        return plan.steps or 0
    per_epoch = size // plan.batch_size if plan.drop_last else -(-size // plan.batch_size)
    return per_epoch * plan.epochs


def _flops(workplace: Workplace, num_channels: int, image_size: int) -> int:
    image = torch.zeros(1, num_channels, image_size, image_size, device=workplace.device)
    workplace.model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        workplace.model(image)
    return int(counter.get_total_flops())
