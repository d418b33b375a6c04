"""Flower's ServerApp and ClientApp: a run on one of Flower's own runtimes.

Nodes without a `data-dir` are simulated: each process opens the whole data set, as a worker does.
Nodes with one are sites that keep their images; see `fedsim.flower.federation`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedsim import report, simulate
from fedsim.cli.progress import describe
from fedsim.cli.streams import visible
from fedsim.data.population import Population
from fedsim.engines import leash
from fedsim.engines.inline import failure, repeatable
from fedsim.engines.placement import choose_devices
from fedsim.errors import DivergedError, InputError, RunError
from fedsim.execution import execute
from fedsim.flower import client_memory, federation, own_data, roll_call, wire
from fedsim.flower.client_app import make_client_app
from fedsim.flower.own_data import OwnData
from fedsim.flower.roll_call import Node
from fedsim.flower.runtime_grid import RuntimeGrid
from fedsim.flower.server_app import Progress
from fedsim.flower.strategy import build
from fedsim.flower.workplace import Workplace
from fedsim.records import RunFolder, RunRecord, read
from fedsim.scenario import Scenario, UnmetError, from_data, open_population, read_draft

log = logging.getLogger("fedsim")
server = ServerApp()
client = ClientApp()


@client.query()
def _introduce(message: Message, context: Context) -> Message:
    """Say which site this is and, if it has images of its own, what the server must know."""
    own, said = _own(context), None
    if own is not None:
        task = message.content.config_records[wire.TASK]
        try:
            devices = [str(device) for device in choose_devices(_device(task, context))]
            with repeatable():
                said = own_data.introduce(str(task[wire.SCENARIO]), own, devices)
        except Exception as error:  # whatever goes wrong there; the server decides what follows
            said = {"error": f"{type(error).__name__}: {error}"}
    answer = roll_call.introduce(_site(context), _num_sites(context), said)
    return Message(RecordDict({wire.CONFIG: answer}), reply_to=message)


@client.train()
def _train(message: Message, context: Context) -> Message:
    return _answer(message, context)


@client.evaluate()
def _evaluate(message: Message, context: Context) -> Message:
    return _answer(message, context)


def _answer(message: Message, context: Context) -> Message:
    """Act for the site that this node is."""
    task = message.content.config_records[wire.TASK]
    try:
        with repeatable():
            own, device = _own(context), _device(task, context)
            app = _app(str(task[wire.SCENARIO]), device, own, _memory(task, own, context))
            return app(message, context)
    except Exception as error:  # whatever a client does; the server decides what follows
        return failure(message, f"{type(error).__name__}: {error}")


@lru_cache(maxsize=1)
def _app(text: str, device: str, own: OwnData | None, memory: Path | None) -> ClientApp:
    """Return the client of a scenario; a process that lives longer than a message keeps it."""
    if own is None:
        scenario = from_data(json.loads(text), "scenario")
        population = open_population(scenario)
    else:
        scenario = own_data.read(text, own)
        population = own_data.open_own(scenario, own)
    workplace = Workplace(scenario, population, choose_devices(device)[0])
    return make_client_app(workplace, client_memory.at(memory))


def _memory(task: ConfigRecord, own: OwnData | None, context: Context) -> Path | None:
    """Return where this site keeps what is its own, if it keeps anything.

    A simulated one does where the server says, one with images in a folder of the study beside
    them, or in the node's `memory-dir`.
    """
    if wire.PLACE not in task:
        return None
    place = str(task[wire.PLACE])
    if own is None:
        return Path(place)
    if not re.fullmatch(r"[0-9a-f]{16}", place):
        raise InputError(f"the server names the study {place!r}, expected 16 hexadecimal digits")
    folder = context.node_config.get("memory-dir")
    return (Path(str(folder)).expanduser() if folder else own.folder / ".fedsim") / place


def _site(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _num_sites(context: Context) -> int:
    return int(context.node_config["num-partitions"])


def _own(context: Context) -> OwnData | None:
    folder = context.node_config.get("data-dir")
    if folder is None:
        return None
    return OwnData(Path(str(folder)).expanduser(), _site(context), _num_sites(context))


def _device(task: ConfigRecord, context: Context) -> str:
    """Return where to compute: what the node says, or what the server does."""
    return str(context.node_config.get("device", task[wire.DEVICE]))


@server.main()
def _serve(grid: Grid, context: Context) -> None:
    leash.follow(_end_ray)
    with _shown():
        record = serve(grid, context.run_config)
        if context.run_config["report"]:
            report.write(record)
        log.info("%s", record.folder)


def _end_ray() -> None:
    """End the processes of Ray, if this is the one that started them."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def serve(grid: Grid, options: Mapping[str, Any]) -> RunRecord:
    """Run a scenario, or go on with a run, with the nodes of one of Flower's runtimes.

    Args:
        grid: reaches them.
        options: the run config: `scenario` (a file), `out`, `run-name`, `device`, `keep-every` (0:
            none but last and best), or `resume` (a run folder).

    Raises:
        InputError: if scenario, data, folder or nodes cannot be used; nothing was trained then.
        RunError: if the run fails.
    """
    devices = choose_devices(str(options["device"]))
    record = read(Path(str(options["resume"])).expanduser()) if options["resume"] else None
    if record is not None:
        simulate.recorded_scenario(record)
        if record.finished:
            return record
    draft = read_draft(record.folder / "scenario.yaml" if record else _file(options))
    written = draft.as_written()
    task = ConfigRecord(
        {wire.SCENARIO: json.dumps(written.resolved()), wire.DEVICE: devices[0].type}
    )
    nodes = roll_call.roll_call(grid, task)
    with draft.pointing():
        own = any(node.own is not None for node in nodes)
        scenario, population, described = (
            _federated(written, nodes, devices)
            if own
            else _simulated(draft.scenario(), len(nodes), devices[0])
        )
    if record is None:
        out, name = Path(str(options["out"])).expanduser(), str(options["run-name"]) or None
        path = simulate.run_folder(written, out, name)
        folder = simulate.create(written, described, path, int(options["keep-every"]) or None)
    else:
        simulate.check_unchanged(record, described)
        folder = RunFolder(record.folder)

    def reach(workplace: Workplace, memory: Path | None, stack: ExitStack) -> RuntimeGrid:
        if memory is not None:
            task[wire.PLACE] = written.digest[:16] if own else str(memory.resolve())
        return RuntimeGrid(grid, [node.id for node in nodes], task)

    with _way_on(folder.path):
        return execute(scenario, population, folder, devices, reach, _tell)


def _simulated(
    scenario: Scenario, num_nodes: int, device: torch.device
) -> tuple[Scenario, Population, dict[str, Any]]:
    """Return scenario, sites and what is recorded of them, where the images of all are here.

    Raises:
        InputError: if they cannot be used, or Flower simulates another number of sites.
    """
    population, described = simulate.prepare(scenario, device)
    if len(population) != num_nodes:
        raise InputError(
            f"the scenario has {len(population)} sites, Flower simulates {num_nodes}: add "
            f"--federation-config 'num-supernodes={len(population)}' to flwr run"
        )
    return scenario, population, described


def _federated(
    written: Scenario, nodes: Sequence[Node], devices: Sequence[torch.device]
) -> tuple[Scenario, Population, dict[str, Any]]:
    """Return scenario, sites and what is recorded of them, where every site has its own images.

    Raises:
        InputError: if they cannot be used.
    """
    if problems := list(federation.unsuited(written)):
        raise UnmetError(written.name, problems)
    said = [node.own or {"error": "has no data-dir"} for node in nodes]
    if errors := [f"site {n}: {one['error']}" for n, one in enumerate(said) if "error" in one]:
        raise InputError("\n".join(errors))
    scenario, population = federation.told(written, said, [str(device) for device in devices])
    build(scenario, buffers=())
    if scenario.client.looks_at_network:
        Workplace(scenario, population, devices[0])
    described = simulate.describe(
        scenario, population, population.checksums, federation.duplicates(said)
    )
    return scenario, population, described


def _file(options: Mapping[str, Any]) -> Path:
    """Return the scenario's file.

    Raises:
        InputError: if none is named.
    """
    if not options["scenario"]:
        raise InputError("no scenario: add --run-config 'scenario=\"FILE\"' to flwr run")
    path = Path(str(options["scenario"])).expanduser()
    if not path.is_absolute() and not path.exists():
        raise InputError(
            f"{path}: not found in {Path.cwd()}, where Flower's SuperLink was started: give the "
            "whole path"
        )
    return path


def _tell(progress: Progress) -> None:
    log.info("round %d of %d: %s", progress.round, progress.num_rounds, describe(progress))


@contextmanager
def _way_on(folder: Path) -> Iterator[None]:
    """Say how to go on with a run that failed, in place of where in the code it did."""
    try:
        yield
    except RunError as error:
        if not isinstance(error, DivergedError):
            log.error(
                "%s\nFinished rounds are kept. When all sites are there again, go on with: "
                "flwr run . --stream --run-config \"resume='%s'\"",
                error,
                folder.resolve(),
            )
        raise type(error)(*error.args) from None


class _Line(logging.Formatter):
    """What is logged, without control characters and the traceback, which the run's log has."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return f"fedsim: {visible(record.getMessage())}"


@contextmanager
def _shown() -> Iterator[None]:
    """Let Flower's log have what fedsim logs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
