"""What a study would run, what is there already, how long the rest takes. Nothing is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedsim import plan
from fedsim.comparison.tuning import validation_value
from fedsim.engines.placement import choose_devices, most, rooms
from fedsim.execution import Workers
from fedsim.scenario import open_population
from fedsim.study import inventory
from fedsim.study.cells import PlannedCell
from fedsim.study.choice import choose
from fedsim.study.conclusion import power
from fedsim.study.design import Design
from fedsim.study.folder import folder_of
from fedsim.study.pace import Pace
from fedsim.study.settings import Setting


@dataclass(frozen=True)
class Entry:
    """A method in a setting.

    Args:
        method: its name.
        setting: its name.
        num_trials: cells of its tuning.
        trials_there: those whose run is there.
        num_finals: cells that are compared.
        finals_there: those whose run is there; None until the trials have chosen their values.
        seconds: that the rest takes one after the other.
    """

    method: str
    setting: str
    num_trials: int
    trials_there: int
    num_finals: int
    finals_there: int | None
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """What a study would do.

    Args:
        folder: of the study.
        entries: every method in every setting.
        num_workers: that work side by side.
        seconds: that the rest takes with them.
        measured: whether times are those of finished cells, or estimated from a probe.
        notes: what a reader should know about the methods' chances.
        power: what the seeds can show, see `fedsim.comparison.foresee`; None without any run that
            tells how much values differ between seeds.
    """

    folder: Path
    entries: tuple[Entry, ...]
    num_workers: int
    seconds: float
    measured: bool
    notes: tuple[str, ...]
    power: dict[str, Any] | None

    def as_data(self) -> dict[str, Any]:
        """Return the forecast as plain data."""
        return {**asdict(self), "folder": str(self.folder)}


def forecast(
    design: Design, *, out: str | Path = "runs", device: str = "auto", workers: Workers = 1
) -> Forecast:
    """Say what a study would run.

    Args:
        design: of the study.
        out: as in `fedsim.run_study`.
        device: as in `fedsim.run_study`.
        workers: as in `fedsim.run_study`.

    Raises:
        InputError: if study, data or folders cannot be used.
    """
    devices, there = choose_devices(device), inventory.Shelf(design, Path(out))
    cells = design.first_cells()
    there.sites.check(cells)
    stages = [_stage(design, method, setting, there) for method, setting in design.pairs()]
    measured, pace = bool(there.done), Pace()
    for cell, record in there.done:
        pace.note(cell, inventory.seconds(record))
    missing = [cell for stage in stages for cell in stage.missing]
    if missing and not measured:
        scenario = missing[0].scenario
        pace.guess = plan.make(scenario, open_population(scenario), device=device).seconds
    num = most(rooms(devices), 1) if workers == "auto" else workers
    return Forecast(
        folder_of(design, out),
        tuple(
            replace(stage.entry, seconds=sum(pace.expected(cell) or 0.0 for cell in stage.missing))
            for stage in stages
        ),
        num,
        pace.left(missing, (), num) or 0.0,
        measured,
        tuple(design.notes()),
        power(design, out),
    )


@dataclass(frozen=True)
class _Stage:
    """A method in a setting, and the cells that have to be run."""

    entry: Entry
    missing: list[PlannedCell]


def _stage(design: Design, method: str, setting: Setting, shelf: inventory.Shelf) -> _Stage:
    trials, analysis = design.trial_cells(method, setting), design.analysis
    tried = shelf.look(trials)
    trial: int | None = 0
    if trials:
        values = {
            name: validation_value(
                record, analysis["tuned_by"], analysis["model"], pooled=analysis["pooled"]
            )
            for name, record in tried.items()
        }
        complete = len(tried) == len(trials)
        trial = choose(trials, values, analysis["tuned_by"]) if complete else None
    finals = design.final_cells(method, setting, trial or 0)
    there = {} if trial is None else shelf.look(finals)
    missing = [cell for cell in (*trials, *finals) if cell.name not in {**tried, **there}]
    entry = Entry(
        method,
        setting.name,
        len(trials),
        len(tried),
        len(finals),
        None if trial is None else len(there),
        0.0,
    )
    return _Stage(entry, missing)
