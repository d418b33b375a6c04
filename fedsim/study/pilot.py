"""How much values differ between seeds, before the study or halfway through it."""

from __future__ import annotations

from pathlib import Path

from fedsim.records import RunRecord
from fedsim.records.study import Cell, StudyRecord, is_study, read_study
from fedsim.study.cells import PlannedCell
from fedsim.study.design import Design
from fedsim.study.folder import folder_of
from fedsim.study.inventory import Shelf, seconds


def spread_record(design: Design, out: str | Path = "runs") -> StudyRecord:
    """Return the runs that tell how much seeds matter: final ones if there are, else a pilot's.

    Args:
        design: of the study, which need not have begun.
        out: folder with the runs.
    """
    folder = folder_of(design, out)
    recorded = read_study(folder).cells if is_study(folder) else ()
    finals = tuple(cell for cell in recorded if cell.purpose == "final")
    enough = len({cell.seed for cell in finals}) > 1
    return StudyRecord(
        folder=folder,
        digest=design.digest,
        study=design.resolved(),
        analysis=design.analysis,
        methods=tuple(design.study.methods),
        settings=tuple(setting.name for setting in design.settings),
        varied={setting.name: setting.values for setting in design.settings},
        seeds=tuple(design.seeds),
        cells=finals if enough else tuple(_pilot(design, Shelf(design, Path(out)))),
        comparison=None,
    )


def _pilot(design: Design, shelf: Shelf) -> list[Cell]:
    """Return the finished cells of pilots, whichever study ran them."""
    cells: list[Cell] = []
    number = 0
    while found := shelf.look(planned := design.pilot_cells([number])):
        cells += [_finished(cell, found[cell.name]) for cell in planned if cell.name in found]
        number += 1
    return cells


def _finished(cell: PlannedCell, record: RunRecord) -> Cell:
    return Cell(
        cell=cell.name,
        method=cell.method,
        setting=cell.setting,
        seed=cell.seed,
        purpose=cell.purpose,
        trial=cell.trial,
        values=dict(cell.values),
        folder=record.folder,
        status="done",
        seconds=seconds(record),
        error=None,
    )
