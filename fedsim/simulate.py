"""Run a scenario, or go on with a run."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import fedsim.flower  # noqa: F401  (before flwr: it switches telemetry off)
from fedsim import environment
from fedsim.data.duplicates import look_at
from fedsim.data.population import Population
from fedsim.engines.allocator import freed_memory_kept
from fedsim.engines.inline import InlineGrid, flower_identity, repeatable
from fedsim.engines.placement import adding_device, choose_devices, most, needed_bytes, place, rooms
from fedsim.engines.workers import WorkerGrid
from fedsim.errors import InputError
from fedsim.flower import baselines, intervals
from fedsim.flower.client_app import make_client_app
from fedsim.flower.loss_decomposition import LossDecomposition
from fedsim.flower.server_app import Progress, Server, Watcher
from fedsim.flower.strategy import build
from fedsim.flower.workplace import Workplace
from fedsim.models import weights
from fedsim.records import RunFolder, RunRecord, checkpoint, read
from fedsim.scenario import Scenario, from_data, open_population, recorded
from fedsim.seeds import Streams

log = logging.getLogger("fedsim")

Workers = int | Literal["auto"]
"""Processes that train sites side by side; `auto` is one for each processor that has room."""


def run(
    scenario: Scenario,
    *,
    out: str | Path = "runs",
    name: str | None = None,
    device: str = "auto",
    keep_every: int | None = None,
    workers: Workers = 1,
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
        watch: called after every round.

    Returns:
        The finished record; its `folder` says where everything is.

    Raises:
        InputError: if scenario, data or folder cannot be used; nothing was trained then.
        RunError: if the run fails; `resume` goes on from the last finished round.
    """
    devices = choose_devices(device)
    population = open_population(from_data(scenario.resolved(), scenario.name))
    build(scenario, buffers=())
    for site in range(len(population)):
        population.make_images(site, population.indices[site]["train"][:1])
    folder = RunFolder.create(
        run_folder(scenario, out, name),
        scenario=scenario.resolved(),
        digest=scenario.digest,
        population=_describe(scenario, population),
        keep_every=keep_every,
    )
    return _execute(scenario, population, folder, devices, workers, watch)


def resume(
    folder: str | Path,
    *,
    device: str | None = None,
    workers: Workers = 1,
    watch: Watcher = lambda progress: None,
) -> RunRecord:
    """Go on with a run from its last checkpoint, to the same bits as without the interruption.

    Args:
        folder: of a run that did not finish; a finished one is returned as it is.
        device: as in `run`; by default the one that the run was executed on before.
        workers: as in `run`.
        watch: called after every round.

    Raises:
        InputError: if the folder is none, was changed since, or another process runs it.
        RunError: if the run fails, or does not repeat what is recorded.
    """
    record = read(Path(folder))
    scenario = recorded_scenario(record)
    if record.finished:
        return record
    scenario = from_data(record.scenario, str(record.folder / "scenario.yaml"))
    population = open_population(scenario)
    now = _describe(scenario, population)
    for part, what in (("checksums", "the data"), ("sites", "who holds which images")):
        if now[part] != record.population[part]:
            raise InputError(
                f"{folder}: {what} changed since the run began, so it cannot go on; "
                f"population.json has {record.population[part]}, now it is {now[part]}"
            )
    devices = choose_devices(device or str(record.environment.get("device", "auto")))
    return _execute(scenario, population, RunFolder(record.folder), devices, workers, watch)


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


def _execute(
    scenario: Scenario,
    population: Population,
    folder: RunFolder,
    devices: Sequence[torch.device],
    workers: Workers,
    watch: Watcher,
) -> RunRecord:
    with ExitStack() as stack:
        stack.callback(folder.close)
        stack.enter_context(_logged(folder.path))
        stack.enter_context(repeatable())
        stack.enter_context(freed_memory_kept())
        stack.enter_context(flower_identity())
        _note_environment(folder, devices)
        workplace = Workplace(scenario, population, devices[0])
        if workplace.fitted is not None:
            log.info("starting weights: %s", workplace.fitted.text())
        grid = _grid(workplace, devices, workers, stack)
        server = Server(
            scenario,
            population.names,
            build(scenario, workplace.buffers, adding_device(devices[0])),
            LossDecomposition(workplace) if scenario.evaluation.loss_decomposition else None,
            workplace.predict_external,
            folder,
            grid,
            grid.nodes,
        )
        server.run(workplace.initial, watch)
        _conclude(workplace, folder, watch)
        log.info("finished; the run folder holds %.1f MB", folder.num_bytes() / 1e6)
    return read(folder.path)


def _grid(
    workplace: Workplace, devices: Sequence[torch.device], workers: Workers, stack: ExitStack
) -> InlineGrid:
    """Return what reaches the sites; the stack ends its processes, if it has any."""
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


def _describe(scenario: Scenario, population: Population) -> dict[str, Any]:
    """Return what `population.json` holds."""
    facts, weights_file = scenario.data.source.facts(), scenario.model.weights
    pixels, found = look_at(population)
    if found.num_groups:
        log.warning("%s", found.text())
    checksums = {**population.checksums, "pixels": f"sha256:{pixels}"}
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
        "external": population.external_table(),
        "duplicates": asdict(found),
        "licence": facts.licence,
        "citation": facts.citation,
        "checksums": checksums,
        "appearance": {name: dict(look) for name, look in population.looks.items()},
        "num_mislabelled": dict(population.num_mislabelled),
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
