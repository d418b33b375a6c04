"""What a scenario would do, found out without training a round.

Everything that could fail later is tried once: an image of every site, all images read, the
strategy, the network, one step of training, the smallest batch, one batch of evaluation. Times are
estimates from a probe of a few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from clients.batch import Batch
from clients.evaluation import BATCH_SIZE
from clients.training import Plan as LocalPlan
from fedsim import rho, simulate
from fedsim.bag_advice import Assumed, advise
from fedsim.bag_theory.advice import Advice
from fedsim.data import drawn_sites
from fedsim.data.aggregates import is_known
from fedsim.data.duplicates import Duplicates, look_at
from fedsim.data.label_releases import label_releases
from fedsim.data.population import SERVER, Population
from fedsim.data.source import HELD_OUT, PATIENT, SPLITS, Split
from fedsim.engines.inline import repeatable
from fedsim.engines.placement import choose_devices
from fedsim.errors import FedsimError, InputError
from fedsim.fleet.forecast import Forecast, forecast
from fedsim.flower.baselines import trainings
from fedsim.flower.muster import local_plans, message_bytes, muster
from fedsim.flower.strategy import build
from fedsim.flower.workplace import Workplace
from fedsim.probe import Probe, first_step, measure
from fedsim.scenario import AllSites, FixedSize, Poisson, Scenario
from fedsim.scenario.messages import UnmetError
from fedsim.scenario.privacy import beside_labels
from fedsim.scenario.promises import delta_of, is_private
from fedsim.scenario.yaml_tree import dotted
from fedsim.seeds import Streams

if TYPE_CHECKING:
    from fedsim.privacy.balance import Balance


@dataclass(frozen=True)
class Plan:
    """What would run.

    Args:
        name: of the scenario.
        digest: of the scenario.
        source: kind of the data source.
        images: (channel, height, width).
        licence: of the images.
        class_names: of the task.
        num_sites: that train.
        sites: as `Population.table` has them.
        drawn: how sites draw their training images; None where every site has its own.
        external: as `Population.external_table` has them.
        num_mislabelled: training images with a wrong label by site, empty without label noise.
        knowledge: what sites know of their labels, if not plainly all.
        bag_sizes: entry of `population.supervision` with bags -> what theory advises, if asked.
        adversaries: as `Attackers.describe` has them.
        privacy: what the whole run would cost; None if nothing is protected.
        looks: appearance parameters by site, empty without a shift.
        duplicates: equal images; None if not all images could be read.
        num_patients: if patients are known.
        parameters: trainable numbers of the network.
        buffers: other numbers of its state.
        weights: what came of a file of starting weights, if there is one.
        cohort: sites in a round, on average.
        bytes_down: sent to the sites for training in a round, on average.
        bytes_up: sent back.
        rounds: of the federation.
        steps: fewest and most optimiser steps in a round of the sites that are counted.
        memory: bytes of all images as the network sees them.
        device: that was probed.
        budget: epsilon that no site may spend more than; None if there is no such limit.
        probe: operations and times; None if the network cannot be trained.
        fleet: devices and virtual time; None without devices, or where they do not suffice.
        seconds_round: estimated time of a round's training.
        seconds_evaluation: estimated time of one evaluation of all sites.
        seconds: estimated time of the whole run with its yardsticks, without the loss decomposition
            and intervals.
        folder: that the run would write to.
        problems: what would fail.
    """

    name: str
    digest: str
    source: str
    images: tuple[int, int, int]
    licence: str
    class_names: tuple[str, ...]
    num_sites: int
    sites: list[dict[str, Any]]
    drawn: dict[str, Any] | None
    external: list[dict[str, Any]]
    num_mislabelled: Mapping[str, int]
    knowledge: Mapping[str, Mapping[str, Any]]
    bag_sizes: Mapping[int, Advice]
    adversaries: list[dict[str, Any]]
    privacy: Balance | None
    budget: float | None
    looks: Mapping[str, Mapping[str, Any]]
    duplicates: Duplicates | None
    num_patients: int | None
    parameters: int
    buffers: int
    weights: str | None
    cohort: float
    bytes_down: float
    bytes_up: float
    rounds: int
    steps: tuple[int, int]
    memory: int
    device: str
    probe: Probe | None
    fleet: Forecast | None
    seconds_round: float | None
    seconds_evaluation: float | None
    seconds: float | None
    folder: str
    problems: list[str]

    def as_data(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        privacy = None if self.privacy is None else self.privacy.as_data()
        return {**asdict(self), "privacy": privacy}


def make(
    scenario: Scenario,
    population: Population,
    *,
    out: str | Path = "runs",
    name: str | None = None,
    device: str = "auto",
    assumed: Assumed | None = None,
) -> Plan:
    """Find out what a run would do; nothing is written, but for the image cache.

    Args:
        scenario: that would run.
        population: its sites.
        out: folder that would get the run folder.
        name: of the run folder.
        assumed: of the responses of bags, to see which bag size theory advises.
        device: as in `fedsim.run`.

    Raises:
        InputError: if there is no such device, or no network to plan with; lists all problems.
    """
    if rho.is_open(scenario):
        scenario = rho.with_rho(scenario, rho.CANDIDATES[0])
    facts, folder = scenario.data.source.facts(), simulate.run_folder(scenario, out, name)
    chosen = choose_devices(device)[0]
    problems: list[str] = []
    if folder.exists():
        problems.append(f"{folder} exists already: `fedsim resume {folder}`, or another name")
    with _noting(problems, "the strategy cannot be built"):
        build(scenario, buffers=())
    duplicates = _read_everything(population, problems)
    with repeatable():
        workplace = _workplace(scenario, population, chosen, problems)
        probe = _probe(workplace, scenario.client.plan, problems) if duplicates else None
        fleet = _fleet(workplace, problems) if probe else None
        privacy = _privacy(workplace, problems)
    network, num_bytes = workplace.network, message_bytes(workplace)
    cohort, sizes = _cohort_size(scenario, len(population)), population.sizes()
    plans = local_plans(scenario, population, len(sizes))
    steps = _num_steps(population, plans, sizes)
    patients = population.columns.get(PATIENT)
    num_images = population.num_images() + sum(len(part.labels) for part in population.external)
    return Plan(
        name=scenario.name,
        digest=scenario.digest,
        source=scenario.data.source.kind,
        images=facts.image_shape,
        licence=facts.licence,
        class_names=population.class_names,
        num_sites=len(population),
        sites=population.table(),
        drawn=drawn_sites.describe(population),
        external=population.external_table(),
        num_mislabelled=dict(population.num_mislabelled),
        knowledge=population.knowledge_table(),
        bag_sizes={} if assumed is None else advise(scenario, population, assumed),
        adversaries=workplace.attackers.describe(),
        privacy=privacy,
        budget=_budget(scenario),
        looks={name: dict(look) for name, look in population.looks.items()},
        duplicates=duplicates,
        num_patients=None if patients is None else len(set(patients.tolist())),
        parameters=sum(p.numel() for p in network.module.parameters()),
        buffers=sum(network.initial[b].numel() for b in network.buffers),
        weights=None if network.fitted is None else network.fitted.text(),
        cohort=cohort,
        bytes_down=cohort * num_bytes,
        bytes_up=cohort * num_bytes,
        rounds=scenario.rounds,
        steps=(min(steps), max(steps)),
        memory=4 * num_images * facts.num_channels * facts.image_size**2,
        device=str(chosen),
        probe=probe,
        fleet=fleet,
        **_times(workplace, scenario, cohort, probe),
        folder=str(folder),
        problems=problems,
    )


def refusal(problems: list[str]) -> InputError:
    """Return the error that lists what would fail."""
    return InputError("this would fail:\n" + "\n".join(f"- {problem}" for problem in problems))


@contextmanager
def _noting(problems: list[str], what: str) -> Iterator[None]:
    """Turn whatever a source, a network or a device raise into a problem."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, FedsimError) else f"{type(error).__name__}: "
        problems.append(f"{what}: {kind}{error}")


def _read_everything(population: Population, problems: list[str]) -> Duplicates | None:
    """Make an image of every split of those to try, then read all; None where some cannot be."""
    found: list[str] = []
    for holder in population.tried:
        with _noting(found, f"the images of {population.name(holder)} cannot be made"):
            for split in SPLITS:
                if len(first := population.held(holder)[split][:1]):
                    population.make_images(holder, first)
    for part in population.external:
        with _noting(found, f"the images of {part.name} cannot be made"):
            part.normalisation.apply(part.pixels(np.arange(1)))
    duplicates = None
    if not found:
        with _noting(found, "not all images can be read"):
            duplicates = look_at(population)[1]
    problems += found
    return duplicates


def _workplace(
    scenario: Scenario, population: Population, device: torch.device, problems: list[str]
) -> Workplace:
    """Return the workplace of a run.

    Raises:
        InputError: if there is no network to work with; lists all problems.
    """
    with _noting(problems, "the network cannot be made"):
        return Workplace(scenario, population, device)
    raise refusal(problems)


def _fleet(workplace: Workplace, problems: list[str]) -> Forecast | None:
    """Return what happens on the virtual clock; None without one, or where devices are too small.

    A site's device that cannot hold its batch is a problem.
    """
    scenario, sites = workplace.scenario, len(workplace.population)
    if not scenario.population.devices:
        return None
    try:
        fleet = muster(workplace)
    except UnmetError as error:
        problems += [f"{dotted(problem.path)}: {problem.message}" for problem in error.problems]
        return None
    rounds = range(1, scenario.rounds + 1)
    cohorts = (scenario.cohort.draw(sites, round, workplace.streams) for round in rounds)
    return forecast(fleet, scenario.round_policy, cohorts)


def _privacy(workplace: Workplace, problems: list[str]) -> Balance | None:
    """Return what the ledger of the whole run would come to, None if that cannot be."""
    scenario, population = workplace.scenario, workplace.population
    if not is_private(scenario.resolved()):
        return None
    from fedsim.flower.private_rounds import PrivateRounds
    from fedsim.privacy.balance import balance

    planned = label_releases(population, beside_labels(scenario))
    with _noting(problems, "training cannot be private"):
        workplace.check_private()
    with _noting(problems, "the epsilon cannot be planned"):
        if scenario.privacy is not None:
            rounds = PrivateRounds.of(scenario, population)
            rounds.mean()
            planned += rounds.planned()
        return balance(planned, delta_of(scenario.resolved()), population.shared_patients())
    return None


def _budget(scenario: Scenario) -> float | None:
    section = scenario.privacy
    return None if section is None or section.budget is None else section.budget.epsilon


def _probe(workplace: Workplace, plan: LocalPlan, problems: list[str]) -> Probe | None:
    """Train a step and evaluate a batch, then count and time both; None if that fails."""
    found: list[str] = []
    with _noting(found, "a training step fails"):
        sizes = workplace.population.sizes()
        largest = sizes.index(max(sizes))
        evaluates = largest if workplace.population.server is None else SERVER
        batch, many = (
            _batch(workplace, largest, plan.batch_size),
            _batch(workplace, evaluates, BATCH_SIZE),
        )
        if not np.isfinite(first_step(workplace, batch)):
            found.append("the first training step gives a loss that is not finite")
        network = workplace.network
        (scores,) = network.predict(network.snapshot(), many)
        if not torch.isfinite(scores).all():
            found.append("after one training step the network's output is not finite")
    num, where = _smallest(workplace)
    if not found and num < len(batch):
        with _noting(found, f"{where} would train on a batch of {num}, which fails"):
            first_step(workplace, batch[:num])
    problems += found
    return None if found else measure(workplace, batch, many)


def _batch(workplace: Workplace, holder: int, num: int) -> Batch:
    """Return at most `num` training examples of a holder on the device."""
    population = workplace.population
    positions = population.held(holder)["train"][:num]
    return Batch(
        torch.from_numpy(population.make_images(holder, positions)).to(workplace.device),
        torch.from_numpy(_guessed(population.learned(positions))).to(workplace.device),
    )


def _guessed(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels with 0 in place of those that a site does not know."""
    return np.where(is_known(labels), labels, np.zeros_like(labels))


def _smallest(workplace: Workplace) -> tuple[int, str]:
    """Return the size of the run's smallest training batch, and who has it."""
    population = workplace.population
    sizes = population.sizes()
    plans = local_plans(workplace.scenario, population, len(sizes))
    batches = [
        (plan.smallest_batch(size, population.num_bags(site, "train")), population.names[site])
        for site, (plan, size) in enumerate(zip(plans, sizes, strict=True))
    ]
    usual = workplace.scenario.client.plan
    batches += [
        (usual.smallest_batch(_num_held(population, t.holders, "train")), t.name)
        for t in trainings(workplace)
    ]
    return min(batches)


def _times(
    workplace: Workplace, scenario: Scenario, cohort: float, probe: Probe | None
) -> dict[str, float | None]:
    """Return the estimates of `Plan` in seconds."""
    if probe is None:
        return dict.fromkeys(("seconds_round", "seconds_evaluation", "seconds"))
    population, plan, rounds = workplace.population, scenario.client.plan, scenario.rounds
    sizes = population.sizes()
    step, image = probe.seconds_step, probe.seconds_image
    plans = local_plans(scenario, population, len(sizes))
    num_steps = _num_steps(population, plans, sizes)
    mean_steps = sum(num_steps) / len(sizes)
    held_out = _num_held(population, population.holders, *HELD_OUT)
    held_out += sum(len(part.labels) for part in population.external)
    num_evaluations = len({*range(0, rounds + 1, scenario.evaluation.every), rounds})
    yardsticks = 0.0
    for training in trainings(workplace):
        examples = _num_held(population, training.holders, "train")
        validation = _num_held(population, training.holders, "validation")
        yardsticks += step * rounds * plan.num_steps(examples)
        yardsticks += image * (num_evaluations * validation + 2 * held_out)
    per_round, per_evaluation = step * mean_steps * cohort, image * held_out
    return {
        "seconds_round": per_round,
        "seconds_evaluation": per_evaluation,
        "seconds": rounds * per_round + num_evaluations * per_evaluation + yardsticks,
    }


def _num_steps(
    population: Population, plans: Sequence[LocalPlan], sizes: Sequence[int]
) -> list[int]:
    """Return the optimiser steps of a round at each of the first sites."""
    return [
        plan.num_steps(size, population.num_bags(site, "train"))
        for site, (plan, size) in enumerate(zip(plans, sizes, strict=True))
    ]


def _num_held(population: Population, holders: Sequence[int], *splits: Split) -> int:
    """Return how many examples they hold of these splits together."""
    return sum(len(population.held(holder)[split]) for holder in holders for split in splits)


def _cohort_size(scenario: Scenario, num_sites: int) -> float:
    """Return how many sites take part in a round on average."""
    match scenario.cohort:
        case AllSites():
            return float(num_sites)
        case FixedSize(num_sites=some):
            return float(some)
        case Poisson(sampling_rate=rate):
            return rate * num_sites
        case other:
            streams = Streams(scenario.seed)
            rounds = range(1, scenario.rounds + 1)
            drawn = (other.draw(num_sites, round, streams) for round in rounds)
            return sum(map(len, drawn)) / scenario.rounds
