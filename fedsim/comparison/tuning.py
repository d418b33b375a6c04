"""What the tuning chose for every method, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fedsim.comparison.estimates import estimate
from fedsim.comparison.primary import Primary
from fedsim.errors import InputError
from fedsim.records import read
from fedsim.records.study import Cell, StudyRecord


def tuned(record: StudyRecord, primary: Primary) -> list[dict[str, Any]]:
    """Return a row per setting and method that was tuned.

    The values are those of the final cells. The validation value is the mean over tuning seeds of
    the trial with these values, of the model that is compared; None if no such trial can be read.

    Args:
        record: of the study.
        primary: what is compared.
    """
    rows = []
    for setting in record.settings:
        for method in record.methods:
            own = [c for c in record.cells if (c.setting, c.method) == (setting, method)]
            trials = [cell for cell in own if cell.purpose == "trial"]
            chosen = next((cell.values for cell in own if cell.purpose == "final"), None)
            if trials:
                rows.append(
                    {
                        "setting": setting,
                        "method": method,
                        "values": chosen,
                        "validation_value": _value(trials, chosen, primary),
                        "num_trials": len({cell.trial for cell in trials}),
                        "num_failed": len({c.trial for c in trials if c.status != "done"}),
                    }
                )
    return rows


def _value(trials: Iterable[Cell], chosen: dict[str, Any] | None, primary: Primary) -> float | None:
    found = []
    for cell in trials:
        if cell.status == "done" and cell.values == chosen:
            try:
                found.append(_of_run(cell, primary))
            except InputError:
                continue
    return estimate(found).mean


def _of_run(cell: Cell, primary: Primary) -> float | None:
    """Return what decided on pooled validation images, of the model that is compared."""
    record = read(cell.folder)
    selection = record.selection
    round = selection.best_round if primary.model == "best" else selection.final_round
    wanted = (round, "validation", "pooled", primary.tuned_by)
    return next(
        (
            row["value"]
            for row in record.metrics
            if (row["round"], row["split"], row["site"], row["metric"]) == wanted
        ),
        None,
    )
