"""Run a study: which cell is next, until all are done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from fedsim.engines.placement import choose_devices, most, needed_bytes, place, rooms
from fedsim.execution import Workers as NumWorkers
from fedsim.flower.workplace import Workplace
from fedsim.records.study import StudyRecord
from fedsim.scenario import Scenario, open_population
from fedsim.study import inventory
from fedsim.study.conclusion import conclude
from fedsim.study.crew import Alone, Workers
from fedsim.study.design import Design
from fedsim.study.folder import StudyFolder
from fedsim.study.progress import StudyWatcher
from fedsim.study.race import Race


def run(
    design: Design,
    *,
    out: str | Path = "runs",
    device: str = "auto",
    workers: NumWorkers = 1,
    watch: StudyWatcher = lambda progress: None,
) -> StudyRecord:
    """Run a study, or go on with it where it was stopped.

    Args:
        design: what to do; `fedsim.load_study` reads it.
        out: folder that gets the study folder, and beside it `cells` with one run folder per cell.
            Runs that are there already, from this study or another, are not run again.
        device: as in `fedsim.run`; workers are spread over several.
        workers: cells that run side by side, each in a process of its own, or `auto` for one for
            each processor that has room; one runs in this process. The results are the same bits.
        watch: called whenever a cell or a round is done.

    Returns:
        The record with its comparison; cells that failed are among its cells and sink no other.

    Raises:
        InputError: if study, data or folders cannot be used; nothing was run then.
        InUseError: if another process has the study, or comes to have a run of it; what is done
            stays.
        RunError: if the system cannot write the comparison.
    """
    devices, cells, sites = choose_devices(device), design.first_cells(), inventory.Sites(design)
    sites.check(cells)
    with closing(StudyFolder(design, out)) as folder:
        race = Race(design, folder, Path(out), sites, len(cells), watch)
        for method, setting in design.pairs():
            race.enter(method, setting)
        _finish(race, cells[0].scenario, devices, workers)
        return conclude(folder.read())


def pilot(
    design: Design,
    num_seeds: int,
    *,
    out: str | Path = "runs",
    device: str = "auto",
    workers: NumWorkers = 1,
    watch: StudyWatcher = lambda progress: None,
) -> StudyRecord:
    """Run every method as it is set on a few seeds of their own, to learn how much seeds matter.

    Args:
        design: of the study.
        num_seeds: two or more; none of them is one of the study.
        out: as in `run`.
        device: as in `run`.
        workers: as in `run`.
        watch: as in `run`.

    Raises:
        InputError: as `run`.
    """
    devices, cells = choose_devices(device), design.pilot_cells(range(num_seeds))
    sites = inventory.Sites(design)
    sites.check(cells)
    with closing(StudyFolder(design, out)) as folder:
        race = Race(design, folder, Path(out), sites, len(cells), watch)
        race.add(cells)
        _finish(race, cells[0].scenario, devices, workers)
        return folder.read()


def _finish(
    race: Race, scenario: Scenario, devices: Sequence[torch.device], workers: NumWorkers
) -> None:
    """Run what is left, if anything is.

    Args:
        race: of the study.
        scenario: of one of the cells; says how much room a cell takes.
        devices: where to compute.
        workers: as in `run`.
    """
    if race.num_left:
        with closing(_crew(scenario, devices, workers, race.num_left)) as crew:
            race.run(crew)


def _crew(
    scenario: Scenario, devices: Sequence[torch.device], workers: NumWorkers, num_cells: int
) -> Alone | Workers:
    found, needed = rooms(devices), 0
    if devices[0].type == "cuda":
        needed = needed_bytes(Workplace(scenario, open_population(scenario), devices[0]))
    num = min(most(found, needed) if workers == "auto" else workers, num_cells)
    return Alone(str(devices[0])) if num == 1 else Workers(place(num, found, needed))
