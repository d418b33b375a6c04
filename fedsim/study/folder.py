"""What a study leaves behind, written so that it can be stopped at any time and goes on."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedsim.drafts import new_folder
from fedsim.errors import ExistsError, InputError
from fedsim.records import lock
from fedsim.records.files import cut_torn_line, sweep, to_line, write_text, writing
from fedsim.records.study import CELLS, FORMAT, STUDY, StudyRecord, read_study
from fedsim.scenario.yaml_tree import write
from fedsim.study.cells import PlannedCell
from fedsim.study.design import Design

RUNS = "cells"
"""Folder of all runs beside the study folders: whoever needs the same run finds it there."""


def folder_of(design: Design, out: str | Path) -> Path:
    """Return where a study goes: another analysis, method or seed makes it another folder."""
    return Path(out) / f"{design.study.name}-{design.digest[:10]}"


def run_folder(cell: PlannedCell, out: str | Path) -> Path:
    """Return where the run of a cell goes."""
    return Path(out) / RUNS / cell.run


class StudyFolder:
    """The folder of a study that is going on; at most one process writes to it.

    Args:
        design: of the study.
        out: folder that gets the study folder and the runs.

    Raises:
        InputError: if the folder holds another study or another process writes to it.
    """

    def __init__(self, design: Design, out: str | Path) -> None:
        self.path = folder_of(design, out)
        with suppress(ExistsError):
            _create(self.path, design)
        _check(self.path, design)
        self._lock = lock.hold(self.path)
        sweep(self.path)
        cut_torn_line(self.path / CELLS)

    def close(self) -> None:
        """Let other processes write to the folder."""
        self._lock.close()

    def read(self) -> StudyRecord:
        """Return what is recorded."""
        return read_study(self.path)

    def settle(self, cell: PlannedCell, seconds: float, error: str | None) -> None:
        """Record that a cell finished or failed."""
        row = {
            "cell": cell.name,
            "method": cell.method,
            "setting": cell.setting,
            "seed": cell.seed,
            "purpose": cell.purpose,
            "trial": cell.trial,
            "values": dict(cell.values),
            "run": f"../{RUNS}/{cell.run}",
            "status": "done" if error is None else "failed",
            "seconds": round(seconds, 3),
            "error": error,
        }
        with writing(self.path / CELLS), (self.path / CELLS).open("a", encoding="utf-8") as file:
            file.write(to_line(row))


def _create(path: Path, design: Design) -> None:
    with new_folder(path) as draft:
        write_text(draft / STUDY, json.dumps(_head(design), indent=2) + "\n")
        write_text(draft / "study.yaml", _text(design))


def _check(path: Path, design: Design) -> None:
    """Refuse to go on with a folder whose study is another than `design`.

    Raises:
        InputError: saying what to do.
    """
    read_study(path)
    head = json.loads((path / STUDY).read_text(encoding="utf-8"))
    now = _head(design)
    if changed := [key for key, value in now.items() if head.get(key) != value]:
        raise InputError(
            f"{path / STUDY}: {', '.join(changed)} changed since the study began, but what is "
            "asked and how it is answered was fixed then. Put the file back as it was; another "
            "question is another study, which finds the runs that are there"
        )


def _head(design: Design) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "digest": design.digest,
        "analysis": design.analysis,
        "methods": list(design.study.methods),
        "settings": {setting.name: dict(setting.values) for setting in design.settings},
        "seeds": design.seeds,
        "tuning_seeds": design.tuning_seeds,
        "num_trials": {
            method: {s.name: len(design.trials(method, s)) for s in design.settings}
            for method in design.study.methods
        },
        "notes": design.notes(),
    }


def _text(design: Design) -> str:
    return write(design.resolved())
