"""Run a scenario, or go on with a run."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch

import fedsim.flower  # noqa: F401  (before flwr: it switches telemetry off)
from fedsim import rho
from fedsim.adversaries import choose
from fedsim.data import drawn_sites
from fedsim.data.duplicates import look_at
from fedsim.data.population import Population
from fedsim.engines import ray
from fedsim.engines.inline import repeatable
from fedsim.engines.placement import choose_devices
from fedsim.errors import InputError
from fedsim.execution import Workers, execute, own
from fedsim.flower.muster import device_names, muster
from fedsim.flower.server_app import Watcher
from fedsim.flower.strategy import build
from fedsim.flower.workplace import Workplace
from fedsim.models import weights
from fedsim.records import RunFolder, RunRecord, read
from fedsim.scenario import Scenario, from_data, open_population, recorded
from fedsim.seeds import Streams

Engine = Literal["own", "flower"]
log = logging.getLogger("fedsim")


def run(
    scenario: Scenario,
    *,
    out: str | Path = "runs",
    name: str | None = None,
    device: str = "auto",
    keep_every: int | None = None,
    workers: Workers = 1,
    engine: Engine = "own",
    watch: Watcher = lambda progress: None,
) -> RunRecord:
    """Run a scenario from its beginning to its end.

    Args:
        scenario: what to do; decides every number.
        out: folder that gets the run folder.
        name: of the run folder; by default the scenario's name and digest.
        device: `auto`, `cpu`, `cuda`, `cuda:0,cuda:1`, `mps`; never a scenario matter. Workers are
            spread over several; the first adds the updates.
        keep_every: keep the checkpoint of every so many rounds beside the last and the best.
        workers: processes that train sites side by side, or `auto` for one for each processor that
            has room; one trains them in this process. The results are the same bits. A script that
            asks for more must be importable, with its work under `if __name__ == "__main__":`, for
            workers begin by importing it.
        engine: `own`, or `flower` for Flower's Simulation Runtime, where workers are actors of
            Ray's. The results are the same bits.
        watch: called after every round.

    Returns:
        The finished record; its `folder` says where everything is.

    Raises:
        InputError: if scenario, data or folder cannot be used; nothing was trained then.
        RunError: if the run fails; `resume` goes on from the last finished round.
    """
    devices = choose_devices(device)
    if engine == "flower":
        ray.check(devices)
    path = run_folder(scenario, out, name)
    chosen: Mapping[str, Any] = {}
    if rho.is_open(scenario):
        chosen = _choose_rho(scenario, out, device, workers, engine)
        scenario = rho.with_rho(scenario, chosen["rho"])
    population, described = prepare(scenario, devices[0])
    folder = create(scenario, described, path, keep_every, chosen)
    return _on(engine, scenario, population, folder, devices, workers, watch)


def resume(
    folder: str | Path,
    *,
    device: str | None = None,
    workers: Workers = 1,
    engine: Engine = "own",
    watch: Watcher = lambda progress: None,
) -> RunRecord:
    """Go on with a run from its last checkpoint, to the same bits as without the interruption.

    Args:
        folder: of a run that did not finish; a finished one is returned as it is.
        device: as in `run`; by default the one that the run was executed on before.
        workers: as in `run`.
        engine: as in `run`; it may be another than before.
        watch: called after every round.

    Raises:
        InputError: if the folder is none, was changed since, or another process runs it.
        RunError: if the run fails, or does not repeat what is recorded.
    """
    record = read(Path(folder))
    recorded_scenario(record)
    if record.finished:
        return record
    devices = choose_devices(device or str(record.environment.get("device", "auto")))
    if engine == "flower":
        ray.check(devices)
    scenario = from_data(record.scenario, str(record.folder / "scenario.yaml"))
    population = open_population(scenario)
    check_unchanged(record, _described(scenario, population))
    return _on(engine, scenario, population, RunFolder(record.folder), devices, workers, watch)


def _choose_rho(
    scenario: Scenario, out: str | Path, device: str, workers: Workers, engine: Engine
) -> Mapping[str, Any]:
    """Return how rho was chosen; its trials are runs beside the run, and are used again."""
    prepare(rho.with_rho(scenario, 0.0), choose_devices(device)[0])
    trials = Path(out) / f"{scenario.name}-{scenario.digest[:10]}-trials"

    def trial(scenario: Scenario, name: str) -> RunRecord:
        log.info("choosing rho: %s, %d rounds", name, scenario.rounds)
        if (trials / name).exists():
            return resume(trials / name, device=device, workers=workers, engine=engine)
        return run(scenario, out=trials, name=name, device=device, workers=workers, engine=engine)

    return rho.choose(scenario, trial)


def prepare(scenario: Scenario, device: torch.device) -> tuple[Population, dict[str, Any]]:
    """Return the sites of a new run and what is recorded of them, once all is checked.

    Args:
        scenario: that will run.
        device: where to compute.

    Raises:
        InputError: if scenario or data cannot be used.
    """
    if rho.is_open(scenario):
        raise InputError(
            "client.objective.rho: auto is chosen by `fedsim run`, in trials before the run: here "
            "give a number, or tune it in a study"
        )
    population = open_population(from_data(scenario.resolved(), scenario.name))
    build(scenario, buffers=())
    if (
        scenario.population.devices
        or scenario.client.looks_at_network
        or scenario.privacy is not None
        or scenario.model.weights is not None
        or scenario.model.frozen
    ):
        with repeatable():
            workplace = Workplace(scenario, population, device)
            muster(workplace)
            if scenario.privacy is not None:
                _check_privacy(workplace)
    for holder in population.tried:
        population.make_images(holder, population.held(holder)["train"][:1])
    return population, _described(scenario, population)


def _check_privacy(workplace: Workplace) -> None:
    """Find out before any training what private training would fail of.

    Raises:
        InputError: if the network cannot be trained privately, no noise is enough, or there are
            too few sites.
    """
    from fedsim.flower.private_rounds import PrivateRounds

    workplace.check_private()
    rounds = PrivateRounds.of(workplace.scenario, workplace.population)
    for releaser in rounds.releasers(list(range(len(workplace.population)))):
        rounds.release(releaser)
    rounds.mean()


def create(
    scenario: Scenario,
    population: Mapping[str, Any],
    path: Path,
    keep_every: int | None,
    chosen: Mapping[str, Any] = MappingProxyType({}),
) -> RunFolder:
    """Make the folder of a new run.

    Args:
        scenario: as its author wrote it.
        population: what `population.json` holds.
        path: of the folder.
        keep_every: as in `run`.
        chosen: what trials chose in place of `auto`, and how.

    Raises:
        InputError: if the folder exists or cannot be made.
    """
    return RunFolder.create(
        path,
        scenario=scenario.resolved(),
        digest=scenario.digest,
        population=population,
        keep_every=keep_every,
        chosen=chosen,
    )


def check_unchanged(record: RunRecord, now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run on other data.

    Args:
        record: of the run.
        now: what its `population.json` would hold now.

    Raises:
        InputError: if that differs.
    """
    for part, what in (("checksums", "the data"), ("sites", "who holds which images")):
        rows = zip_longest(_rows(record.population[part]), _rows(now[part]))
        for then, today in rows:
            if then != today:
                raise InputError(
                    f"{record.folder}: {what} changed since the run began, so it cannot go on; "
                    f"population.json has {then}, now it is {today}. If data and folders are as "
                    "they were, the run began with another version: see its environment.jsonl"
                )


def _rows(part: Mapping[str, Any] | Sequence[Any]) -> Iterable[Any]:
    return sorted(part.items()) if isinstance(part, Mapping) else part


def recorded_scenario(record: RunRecord) -> Scenario:
    """Return the scenario of a run, without needing the data that it names.

    Raises:
        InputError: if the file was changed since the run began.
    """
    file = record.folder / "scenario.yaml"
    scenario = recorded(record.scenario, str(file))
    if scenario.digest != record.run["digest"]:
        raise InputError(
            f"{file}: was changed since the run began (digest {scenario.digest[:10]}, run.json has "
            f"{record.run['digest'][:10]}). Put it back as it was, or start a new run with it: "
            f"fedsim run {file}"
        )
    return scenario


def run_folder(scenario: Scenario, out: str | Path, name: str | None) -> Path:
    """Return where a run of this scenario goes.

    Raises:
        InputError: if the name is no plain folder name.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise InputError(
            f"run name {name!r}: use up to 100 letters, digits, `.`, `_` and `-`, "
            "beginning with a letter or digit"
        )
    return Path(out) / (name or f"{scenario.name}-{scenario.digest[:10]}")


def _on(
    engine: Engine,
    scenario: Scenario,
    population: Population,
    folder: RunFolder,
    devices: Sequence[torch.device],
    workers: Workers,
    watch: Watcher,
) -> RunRecord:
    """Execute on one of the engines of this computer."""
    if engine == "own":
        reach = partial(own, devices, workers)
        return execute(scenario, population, folder, devices, reach, watch)
    folder.close()
    ray.execute(folder.path, len(population), workers, devices[0].type, watch)
    return read(folder.path)


def _described(scenario: Scenario, population: Population) -> dict[str, Any]:
    """Return what `population.json` holds of sites whose images are here."""
    pixels, found = look_at(population)
    if found.num_groups:
        log.warning("%s", found.text())
    checksums = {**population.checksums, "pixels": f"sha256:{pixels}"}
    return describe(scenario, population, checksums, asdict(found))


def describe(
    scenario: Scenario,
    population: Population,
    checksums: Mapping[str, str],
    duplicates: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what `population.json` holds.

    Args:
        scenario: of the run.
        population: its sites.
        checksums: of the data.
        duplicates: images that are there twice.
    """
    facts, weights_file = scenario.data.source.facts(), scenario.model.weights
    attackers = choose(scenario.population.adversaries, population.names, Streams(scenario.seed))
    checksums = dict(checksums)
    if weights_file is not None:
        checksums[weights_file.name] = f"sha256:{weights.sha256(weights_file)}"
    return {
        "task": scenario.data.task,
        "target_unit": facts.targets.get(scenario.data.target or "", ""),
        "class_names": list(population.class_names),
        "images": {
            "num_channels": facts.num_channels,
            "image_size": facts.image_size,
            "synthetic": facts.synthetic,
        },
        "sites": population.table(),
        "drawn": drawn_sites.describe(population),
        "external": population.external_table(),
        "duplicates": dict(duplicates),
        "shared_patients": population.shared_patients(),
        "licence": facts.licence,
        "citation": facts.citation,
        "checksums": checksums,
        "appearance": {name: dict(look) for name, look in population.looks.items()},
        "num_mislabelled": dict(population.num_mislabelled),
        "knowledge": population.knowledge_table(),
        "devices": device_names(scenario, population),
        "adversaries": attackers.describe(),
    }
