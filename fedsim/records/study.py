"""The study folder: many runs of one question, and reading them.

    study.yaml           the resolved study; itself a study file, with the base scenario inside
    study.json           format version, digest, the analysis, and what the names mean
    cells.jsonl          one line per cell that finished or failed
    comparison.json      what the runs say together, see `fedsim.comparison`
    report/              tables, figures and the page, made again by `fedsim report`

The study folder lies beside the folder `cells`, which has the run folder of every cell, named by
the digest of its scenario: studies that need the same run share it.

`study.json`: format, digest; analysis {metric, split, pooled, model ("final" or "best"), reference,
smallest_difference_of_interest, higher_is_better, tuned_by, target, confidence, correction};
methods [names],
settings {name: {key: value}}, seeds, tuning_seeds, num_trials {method: {setting: trials}}, notes
[str] on unequal tuning.

A row of `cells.jsonl`; of several rows of one cell the last one counts:

    cell         str         "<purpose>/<method>/<setting>/[trial <n>/]seed <n>"
    method       str
    setting      str         one combination of what is varied, or "base"
    seed         int
    purpose      str         "trial" (of the tuning), "pilot" or "final"
    trial        int|null    number of the trial, 0 is the method's own values
    values       object      the tuned keys with the values of this cell
    run          str         its run folder, relative to the study folder
    status       str         "done" or "failed"
    seconds      float       that this study computed, or what is recorded if the run was there
    error        str|null    why it failed
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.errors import InputError, ScenarioError
from fedsim.records.files import read_lines
from fedsim.scenario.yaml_tree import plain

FORMAT = 1
"""Version of the study folder; to be raised when older readers would misread it."""
STUDY, CELLS, COMPARISON = "study.json", "cells.jsonl", "comparison.json"
PURPOSES = ("trial", "pilot", "final")
DIVERGED = "diverged: "
"""How the error of a cell begins that would fail again."""


@dataclass(frozen=True)
class Cell:
    """One run of a study that finished or failed.

    Args:
        cell: its name within the study.
        method: what is compared.
        setting: under which circumstances.
        seed: of its scenario.
        purpose: `trial` (of the tuning), `pilot` or `final`.
        trial: number of the trial, 0 is the method's own values; None of other cells.
        values: the tuned keys of the scenario with the values of this cell.
        folder: the run folder.
        status: `done` or `failed`.
        seconds: of computing.
        error: why it failed.
    """

    cell: str
    method: str
    setting: str
    seed: int
    purpose: str
    trial: int | None
    values: dict[str, Any]
    folder: Path
    status: str
    seconds: float
    error: str | None


@dataclass(frozen=True)
class StudyRecord:
    """All that is recorded of a study, as plain data.

    Args:
        folder: where it stands.
        digest: of all that is asked and how it is answered.
        study: the resolved study file.
        analysis: how the runs are compared; fixed before the first of them.
        methods: names, in the author's order.
        settings: names, in the author's order.
        varied: name of a setting -> key path -> value.
        seeds: of the final cells.
        cells: those that finished or failed, in the order of the plan whatever ran first.
        comparison: what the runs say together, None until it is made.
    """

    folder: Path
    digest: str
    study: dict[str, Any]
    analysis: dict[str, Any]
    methods: tuple[str, ...]
    settings: tuple[str, ...]
    varied: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    comparison: dict[str, Any] | None


def cell_name(purpose: str, method: str, setting: str, trial: int | None, seed: int) -> str:
    """Return what a cell is called within its study."""
    which = [] if trial is None else [f"trial {trial}"]
    return "/".join([purpose, method, setting, *which, f"seed {seed}"])


def value_name(value: Any) -> str:
    """Return what a value that a study varies is called, in few characters.

    >>> value_name({"kind": "dirichlet", "alpha": 0.1})
    'dirichlet(alpha=0.1)'
    """
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key}={value_name(v)}" for key, v in value.items() if key != "kind")
        kind = str(value.get("kind", ""))
        return f"{kind}({inside})" if inside or not kind else kind
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_name, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def is_study(folder: str | Path) -> bool:
    """Whether this is the folder of a study."""
    return (Path(folder) / STUDY).is_file()


def read_study(folder: str | Path) -> StudyRecord:
    """Read a study folder, whether the study is finished, going on or dead.

    Raises:
        InputError: if it is none, was written in another format, or its files are damaged.
    """
    folder = Path(folder)
    if not is_study(folder):
        raise InputError(f"{folder}: is no study folder (it has no {STUDY})")
    try:
        head = json.loads((folder / STUDY).read_text(encoding="utf-8"))
        if head["format"] != FORMAT:
            raise InputError(
                f"{folder}: was written in format {head['format']}, this fedsim reads format "
                f"{FORMAT}; run the study anew, its runs are used again"
            )
        study = plain((folder / "study.yaml").read_text(encoding="utf-8"))
        return StudyRecord(
            folder=folder,
            digest=head["digest"],
            study=study,
            analysis=head["analysis"],
            methods=tuple(head["methods"]),
            settings=tuple(head["settings"]),
            varied=head["settings"],
            seeds=tuple(head["seeds"]),
            cells=_cells(folder, list(head["methods"]), list(head["settings"])),
            comparison=_comparison(folder / COMPARISON),
        )
    except (OSError, ValueError, RecursionError, KeyError, TypeError, ScenarioError) as error:
        raise InputError(
            f"{folder}: is damaged: {error!r}. Move it away and give the study file again: its "
            "runs are used again"
        ) from error


def _comparison(file: Path) -> dict[str, Any] | None:
    """Return what the runs say together, None until it is made."""
    if not file.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
    except ValueError as error:
        raise InputError(
            f"{file}: is damaged ({error}); remove it, and `fedsim study` makes it again of the "
            "runs"
        ) from error
    return content


def _cells(folder: Path, methods: list[str], settings: list[str]) -> tuple[Cell, ...]:
    def place(cell: Cell) -> tuple[int, ...]:
        return (
            PURPOSES.index(cell.purpose),
            methods.index(cell.method),
            settings.index(cell.setting),
            cell.trial or 0,
            cell.seed,
        )

    rows = {row["cell"]: row for row in read_lines(folder / CELLS)}
    return tuple(sorted((_cell(folder, row) for row in rows.values()), key=place))


def _cell(folder: Path, row: dict[str, Any]) -> Cell:
    row = dict(row)
    return Cell(folder=folder / row.pop("run"), **row)
