"""One run from its run folder as it stands to its end, wherever its clients run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from flwr.serverapp.strategy import Strategy

from fedsim import environment
from fedsim.data.population import Population
from fedsim.engines.allocator import freed_memory_kept
from fedsim.engines.inline import InlineGrid, flower_identity, repeatable
from fedsim.engines.placement import adding_device, most, needed_bytes, place, rooms
from fedsim.engines.workers import WorkerGrid
from fedsim.flower import baselines, intervals, predictions, unshrinking
from fedsim.flower.attack import Attack
from fedsim.flower.client_app import make_client_app
from fedsim.flower.client_memory import at
from fedsim.flower.dispatcher import Dispatcher
from fedsim.flower.loss_decomposition import LossDecomposition
from fedsim.flower.muster import muster
from fedsim.flower.network import Network
from fedsim.flower.recollection import Recollection
from fedsim.flower.runtime_grid import RuntimeGrid
from fedsim.flower.server_app import Progress, Server, Watcher
from fedsim.flower.strategy import build
from fedsim.flower.unshrinking import UNSHRUNK
from fedsim.flower.workplace import Workplace
from fedsim.records import RunFolder, RunRecord, read
from fedsim.records.files import writing
from fedsim.scenario import Scenario

if TYPE_CHECKING:
    from fedsim.flower.desk import Desk

Reach = Callable[[Workplace, Path | None, ExitStack], InlineGrid | RuntimeGrid]
"""Makes what reaches the sites, which may keep things in a folder; the stack ends its processes."""
MEMORY = "memory"
"""Folder of what simulated sites keep, in a run folder."""
Workers = int | Literal["auto"]
"""Processes that train sites side by side; `auto` is one for each processor that has room."""
log = logging.getLogger("fedsim")


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
        repeats = _note_environment(folder, devices)
        workplace = Workplace(scenario, population, devices[0])
        bags = {"validation": population.bags_by_name("validation")}
        network = workplace.network
        if network.fitted is not None:
            log.info("starting weights: %s", network.fitted.text())
        adding = adding_device(devices[0])
        memory = folder.path / MEMORY if scenario.client.remembers else None
        grid = reach(workplace, memory, stack)
        private = desk(scenario, population, folder, repeats)
        server = Server(
            scenario,
            population.names,
            _strategy(scenario, network, len(population), adding, private),
            LossDecomposition(workplace) if scenario.evaluation.loss_decomposition else None,
            None if population.server is None else partial(predictions.held_out, workplace),
            partial(predictions.external, workplace),
            folder,
            grid,
            grid.nodes,
            Dispatcher(scenario.round_policy, muster(workplace)),
            Attack(workplace.attackers, network.buffers, workplace.streams, adding),
            Recollection() if scenario.client.remembers else None,
            network.private,
            population.hidden_tests(),
            bags,
            private,
        )
        _open_ledger(scenario, population, folder)
        server.run(network.initial, watch)
        _conclude(workplace, population, folder, watch)
        log.info("finished; the run folder holds %.1f MB", folder.num_bytes() / 1e6)
    return read(folder.path)


def desk(
    scenario: Scenario, population: Population, folder: RunFolder, repeats: bool
) -> Desk | None:
    """Return what decides about releases and writes them down, None if nothing is protected.

    Args:
        scenario: of the run.
        population: its sites.
        folder: which has the ledger.
        repeats: whether what was released before a crash is made again to the same bits.
    """
    if scenario.privacy is None:
        return None
    from fedsim.flower.desk import Desk
    from fedsim.flower.private_rounds import PrivateRounds

    return Desk(PrivateRounds.of(scenario, population), folder, repeats)


def _strategy(
    scenario: Scenario, network: Network, num_sites: int, device: torch.device, desk: Desk | None
) -> Strategy:
    """Return the scenario's strategy; where the server adds noise, what is not trained has none."""
    mean = None if desk is None else desk.mean()
    untouched = network.buffers if mean is None else frozenset(network.initial) - network.trained
    return build(scenario, untouched, num_sites, device, mean)


def _open_ledger(scenario: Scenario, population: Population, folder: RunFolder) -> None:
    """Write down what sites told of their labels, unless that was done before a crash."""
    from fedsim.data.label_releases import label_releases
    from fedsim.scenario.privacy import beside_labels

    if folder.checkpoints() and folder.releases():
        return
    if told := label_releases(population, beside_labels(scenario)):
        folder.add_releases(entry.row() for entry in told)


def own(
    devices: Sequence[torch.device],
    workers: Workers,
    workplace: Workplace,
    memory: Path | None,
    stack: ExitStack,
) -> InlineGrid:
    """Return what reaches sites in this process or in workers of our own."""
    stack.enter_context(flower_identity())
    population = workplace.population
    found = rooms(devices)
    limited = workers != 1 and any(room.free_bytes is not None for room in found)
    needed = needed_bytes(workplace) if limited else 0
    num = min(most(found, needed) if workers == "auto" else workers, len(population))
    if num == 1:
        return InlineGrid(make_client_app(workplace, at(memory)), len(population))
    places = place(num, found, needed)
    grid = WorkerGrid(workplace.scenario, population, places, memory)
    stack.callback(grid.close)
    return grid


def _conclude(
    workplace: Workplace, population: Population, folder: RunFolder, watch: Watcher
) -> None:
    """Do what follows the last round: trainings for comparison, then intervals."""
    scenario = workplace.scenario

    def tell(stage: str, round: int) -> None:
        watch(Progress(round, scenario.rounds, None, "", False, None, stage))

    baselines.run(workplace, population.hidden_tests(), folder, tell)
    record = read(folder.path)
    trained = record.trainings()
    rounds = {"final": record.selection.final_round, "best": record.selection.best_round}
    federated = {model: record.predictions(round) for model, round in rounds.items()}
    unshrunk = {}
    if UNSHRUNK in scenario.baselines:
        told = unshrinking.told(population)
        unshrunk = {m: unshrinking.unshrunk(said, *told) for m, said in federated.items()}
    methods = {
        **{("federated", model): said for model, said in federated.items()},
        **{(UNSHRUNK, model): said for model, said in unshrunk.items()},
        **baselines.methods(trained),
    }
    unit, by_site = population.units("test")
    folder.save_test_units(
        unit,
        {name: found.tolist() for name, found in by_site.items()},
        population.attributes("test"),
    )
    tell("bootstrap intervals", scenario.rounds)
    widened = baselines.rows_of_unshrunk(scenario, unshrunk, rounds)
    folder.conclude(
        [*widened, *baselines.scores(scenario, trained)],
        intervals.rows(scenario, population, methods),
    )


def _note_environment(folder: RunFolder, devices: Sequence[torch.device]) -> bool:
    """Record where a run goes on; return whether it repeats the bits of its last start."""
    names = [str(device) for device in devices]
    before, now = read(folder.path).environment, environment.describe(names)
    folder.started(now)
    changed = environment.differences(before, now) if before else []
    if changed:
        log.warning("resumed elsewhere, bits may differ: %s", "; ".join(changed))
    log.info("started on %s with %d thread", ", ".join(names), torch.get_num_threads())
    return not changed


class _Log(logging.FileHandler):
    """A log that drops what a full disk does not take: the run itself says what is the matter."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the record."""

    def close(self) -> None:
        """Close the file, whether or not all of it could be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """Write what fedsim logs into the folder, and keep Flower's round messages off the screen."""
    with writing(folder / "log.txt"):
        handler = _Log(folder / "log.txt", encoding="utf-8")
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
