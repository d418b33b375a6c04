"""What the tuning chose for every method, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fedsim.comparison.estimates import estimate, whole_mean
from fedsim.comparison.primary import Primary
from fedsim.data.source import POOLED
from fedsim.errors import InputError
from fedsim.records import RunRecord, read
from fedsim.records.read import are_enough
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
                found.append(
                    validation_value(
                        read(cell.folder), primary.tuned_by, primary.model, pooled=primary.pooled
                    )
                )
            except InputError:
                continue
    return estimate(found).mean


def validation_value(record: RunRecord, metric: str, model: str, *, pooled: bool) -> float | None:
    """Return the value of a run by which the tuning judges it.

    On the validation images of all sites together, or the unweighted mean over the sites with
    enough of every class, as the test images are looked at: pooled, a model of a site's own gains
    by knowing how frequent the disease is there. Where no site has enough, pooled all the same.

    Args:
        record: of the run.
        metric: that judges.
        model: `final` or `best`, as the study's analysis has it.
        pooled: over all sites together.

    Returns:
        None if the value, or that of any of the sites, is undefined.
    """
    selection = record.selection
    round = selection.final_round if model == "final" else selection.best_round
    found: dict[str, float | None] = {
        row["site"]: row["value"]
        for row in record.metrics
        if (row["round"], row["split"], row["metric"]) == (round, "validation", metric)
    }
    sites = () if pooled or record.population["drawn"] else record.population["sites"]
    judging = [
        found[site["name"]]
        for site in sites
        if site["name"] in found and are_enough(site["validation"], record.scenario)
    ]
    return whole_mean(judging) if judging else found.get(POOLED)
