"""Run a scenario, or go on with a run."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import fedsim.flower  # noqa: F401  (before flwr: it switches telemetry off)
from fedsim import environment
from fedsim.data import drawn_sites
from fedsim.data.duplicates import look_at
from fedsim.data.population import Population
from fedsim.engines import ray
from fedsim.engines.allocator import freed_memory_kept
from fedsim.engines.inline import InlineGrid, flower_identity, repeatable
from fedsim.engines.placement import adding_device, choose_devices, most, needed_bytes, place, rooms
from fedsim.engines.workers import WorkerGrid
from fedsim.errors import InputError
from fedsim.flower import baselines, intervals
from fedsim.flower.client_app import make_client_app
from fedsim.flower.dispatcher import Dispatcher
from fedsim.flower.loss_decomposition import LossDecomposition
from fedsim.flower.muster import device_names, muster
from fedsim.flower.runtime_grid import RuntimeGrid
from fedsim.flower.server_app import Progress, Server, Watcher
from fedsim.flower.strategy import build
from fedsim.flower.workplace import Workplace
from fedsim.models import weights
from fedsim.records import RunFolder, RunRecord, checkpoint, read
from fedsim.scenario import Scenario, from_data, open_population, recorded
from fedsim.seeds import Streams

Engine = Literal["own", "flower"]
Reach = Callable[[Workplace, ExitStack], InlineGrid | RuntimeGrid]
"""Makes what reaches the sites; the stack ends its processes, if it has any."""
Workers = int | Literal["auto"]
"""Processes that train sites side by side; `auto` is one for each processor that has room."""
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
    population, described = prepare(scenario, devices[0])
    folder = create(scenario, described, out, name, keep_every)
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


def prepare(scenario: Scenario, device: torch.device) -> tuple[Population, dict[str, Any]]:
    """Return the sites of a new run and what is recorded of them, once all is checked.

    Args:
        scenario: that will run.
        device: where to compute.

    Raises:
        InputError: if scenario or data cannot be used.
    """
    population = open_population(from_data(scenario.resolved(), scenario.name))
    build(scenario, buffers=())
    if scenario.population.devices:
        with repeatable():
            muster(Workplace(scenario, population, device))
    for holder in population.tried:
        population.make_images(holder, population.held(holder)["train"][:1])
    return population, _described(scenario, population)


def create(
    scenario: Scenario,
    population: Mapping[str, Any],
    out: str | Path,
    name: str | None,
    keep_every: int | None,
) -> RunFolder:
    """Make the folder of a new run.

    Args:
        scenario: as its author wrote it.
        population: what `population.json` holds.
        out: as in `run`.
        name: as in `run`.
        keep_every: as in `run`.

    Raises:
        InputError: if the folder exists or cannot be made.
    """
    return RunFolder.create(
        run_folder(scenario, out, name),
        scenario=scenario.resolved(),
        digest=scenario.digest,
        population=population,
        keep_every=keep_every,
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
        if now[part] != record.population[part]:
            raise InputError(
                f"{record.folder}: {what} changed since the run began, so it cannot go on; "
                f"population.json has {record.population[part]}, now it is {now[part]}"
            )


def load_model(folder: str | Path, which: Literal["best", "final"] = "best") -> nn.Module:
    """Return a trained network of a run, on the CPU and in evaluation mode.

    Args:
        folder: of the run.
        which: the round with the best selecting metric on validation images, or the last one.

    Raises:
        InputError: if the folder is none or holds no such checkpoint.
    """
    record = read(Path(folder))
    scenario, selection = recorded_scenario(record), record.selection
    round = selection.best_round if which == "best" else selection.final_round
    images = record.population["images"]
    with Streams(scenario.seed).torch_default("initial_model"):
        network = scenario.model.build(
            images["num_channels"], len(record.population["class_names"]), images["image_size"]
        )
    network.load_state_dict(checkpoint.load(checkpoint.path_of(record.folder, round))["model"])
    return network.eval()


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
        reach = partial(_own, devices, workers)
        return execute(scenario, population, folder, devices, reach, watch)
    folder.close()
    ray.execute(folder.path, len(population), workers, devices[0].type, watch)
    return read(folder.path)


def execute(
    scenario: Scenario,
    population: Population,
    folder: RunFolder,
    devices: Sequence[torch.device],
    reach: Reach,
    watch: Watcher,
) -> RunRecord:
    """Go on with a run to its end.

    Args:
        scenario: of the run.
        population: its sites.
        folder: where everything is recorded; closed afterwards.
        devices: where to compute, the server's first.
        reach: makes what reaches the sites.
        watch: called after every round.

    Raises:
        RunError: if the run fails.
    """
    with ExitStack() as stack:
        stack.callback(folder.close)
        stack.enter_context(_logged(folder.path))
        stack.enter_context(repeatable())
        stack.enter_context(freed_memory_kept())
        _note_environment(folder, devices)
        workplace = Workplace(scenario, population, devices[0])
        if workplace.fitted is not None:
            log.info("starting weights: %s", workplace.fitted.text())
        grid = reach(workplace, stack)
        server = Server(
            scenario,
            population.names,
            build(scenario, workplace.buffers, adding_device(devices[0])),
            LossDecomposition(workplace) if scenario.evaluation.loss_decomposition else None,
            None if population.server is None else workplace.predict_held_out,
            workplace.predict_external,
            folder,
            grid,
            grid.nodes,
            Dispatcher(scenario.round_policy, muster(workplace)),
        )
        server.run(workplace.initial, watch)
        _conclude(workplace, folder, watch)
        log.info("finished; the run folder holds %.1f MB", folder.num_bytes() / 1e6)
    return read(folder.path)


def _own(
    devices: Sequence[torch.device], workers: Workers, workplace: Workplace, stack: ExitStack
) -> InlineGrid:
    """Return what reaches sites in this process or in workers of our own."""
    stack.enter_context(flower_identity())
    population = workplace.population
    found, needed = rooms(devices), needed_bytes(workplace)
    num = min(most(found, needed) if workers == "auto" else workers, len(population))
    if num == 1:
        return InlineGrid(make_client_app(workplace), len(population))
    places = place(num, found, needed)
    grid = WorkerGrid(workplace.scenario.resolved(), population, places)
    stack.callback(grid.close)
    return grid


def _conclude(workplace: Workplace, folder: RunFolder, watch: Watcher) -> None:
    """Do what follows the last round: trainings for comparison, then intervals."""
    scenario = workplace.scenario

    def tell(stage: str, round: int) -> None:
        watch(Progress(round, scenario.rounds, None, "", False, None, stage))

    baselines.run(workplace, folder, tell)
    record = read(folder.path)
    trained = record.trainings()
    methods = {
        ("federated", "final"): record.predictions(record.selection.final_round),
        ("federated", "best"): record.predictions(record.selection.best_round),
        **baselines.methods(trained),
    }
    tell("bootstrap intervals", scenario.rounds)
    folder.conclude(
        baselines.scores(scenario, trained),
        intervals.rows(scenario, workplace.population, methods),
    )


def _note_environment(folder: RunFolder, devices: Sequence[torch.device]) -> None:
    names = [str(device) for device in devices]
    before, now = read(folder.path).environment, environment.describe(names)
    folder.started(now)
    if before and (changed := environment.differences(before, now)):
        log.warning("resumed elsewhere, bits may differ: %s", "; ".join(changed))
    log.info("started on %s with %d thread", ", ".join(names), torch.get_num_threads())


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
    checksums = dict(checksums)
    if weights_file is not None:
        checksums[weights_file.name] = f"sha256:{weights.sha256(weights_file)}"
    return {
        "task": scenario.data.task,
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
        "licence": facts.licence,
        "citation": facts.citation,
        "checksums": checksums,
        "appearance": {name: dict(look) for name, look in population.looks.items()},
        "num_mislabelled": dict(population.num_mislabelled),
        "devices": device_names(scenario, population),
    }


@contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """Write what fedsim logs into the folder, and keep Flower's round messages off the screen."""
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    flower = logging.getLogger("flwr")
    levels = log.level, flower.level
    log.setLevel(logging.INFO)
    flower.setLevel(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    except KeyboardInterrupt:
        log.info("interrupted; `fedsim resume` goes on after the last finished round")
        raise
    except Exception:
        log.exception("failed")
        raise
    finally:
        log.removeHandler(handler)
        handler.close()
        log.setLevel(levels[0])
        flower.setLevel(levels[1])
