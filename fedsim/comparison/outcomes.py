"""What a comparison needs of every run, taken out of its run folder.

A study has hundreds of runs with thousands of rows each; they are read one after the other, and
only this is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clients.metrics import Task
from fedsim.comparison.primary import Primary
from fedsim.data.source import POOLED
from fedsim.errors import InputError
from fedsim.records import RunRecord, read
from fedsim.records.read import Predicted, are_enough
from fedsim.records.study import Cell, StudyRecord
from fedsim.scenario.promises import delta_of

if TYPE_CHECKING:
    from fedsim.privacy.balance import Account


@dataclass(frozen=True)
class Step:
    """One evaluated round.

    Args:
        round: from 0.
        value: of the primary metric on pooled validation images.
        virtual_s: simulated seconds until then; None without a virtual clock.
        num_bytes: sent until then, down and up.
    """

    round: int
    value: float | None
    virtual_s: float | None
    num_bytes: int


@dataclass(frozen=True)
class Outcome:
    """One run.

    Args:
        method: of its cell.
        setting: of its cell.
        seed: of its scenario.
        task: what kind of classification it is, or a regression.
        positive: index of the positive class of a binary task.
        metrics: names, in the scenario's order.
        scores: (site or `POOLED`, metric) -> value of the model and split that are compared.
        sites: with images of the split, in site order; none where the server holds them.
        valid: those with enough images.
        num_train: training examples by site.
        steps: evaluated rounds.
        bytes_down: sent to sites in the whole run.
        bytes_up: sent back.
        yardsticks: (kind, site or `POOLED`, metric) -> value; empty without baselines.
        predictions: site -> scores and labels of the split.
        units: site -> whose each image is, the same number for the same image (or patient) in every
            run on the same data; empty if that was not recorded.
        unit: "image" or "patient".
        attributes: what else is known of the images: name -> site -> value of each, in the order of
            the predictions.
        accounts: what was spent at each site; empty where nothing was to be private.
    """

    method: str
    setting: str
    seed: int
    task: Task
    positive: int
    metrics: tuple[str, ...]
    scores: Mapping[tuple[str, str], float | None]
    sites: tuple[str, ...]
    valid: tuple[str, ...]
    num_train: Mapping[str, int]
    steps: tuple[Step, ...]
    bytes_down: int
    bytes_up: int
    yardsticks: Mapping[tuple[str, str, str], float | None]
    predictions: Mapping[str, Predicted]
    units: Mapping[str, NDArray[np.int64]]
    unit: str
    attributes: Mapping[str, Mapping[str, Sequence[str]]]
    accounts: Sequence[Account]

    @property
    def block(self) -> tuple[str, int]:
        """Setting and seed: what runs that are compared share."""
        return self.setting, self.seed


def outcomes(
    record: StudyRecord, purpose: str = "final"
) -> tuple[list[Outcome], list[dict[str, Any]]]:
    """Return the runs of a study that can be read, and what failed.

    Args:
        record: of the study.
        purpose: of the cells.

    Returns:
        Outcomes in the order of the cells, and {"cell", "setting", "method", "seed", "error"} for
        every other cell.
    """
    primary = Primary.of(record.analysis)
    found, failures = [], []
    for cell in record.cells:
        if cell.purpose != purpose:
            continue
        if cell.status != "done":
            failures.append(_failure(cell, cell.error))
            continue
        try:
            found.append(outcome(cell, read(cell.folder), primary))
        except (InputError, OSError) as error:
            failures.append(_failure(cell, str(error)))
    return found, failures


def _failure(cell: Cell, error: str | None) -> dict[str, Any]:
    return {
        "cell": cell.cell,
        "setting": cell.setting,
        "method": cell.method,
        "seed": cell.seed,
        "error": error,
    }


def outcome(cell: Cell, record: RunRecord, primary: Primary) -> Outcome:
    """Return what a comparison needs of one run.

    Raises:
        InputError: if predictions that should be there cannot be read.
    """
    scenario, chosen = record.scenario, record.selection
    round = chosen.best_round if primary.model == "best" else chosen.final_round
    holders = record.population["external" if primary.split == "external" else "sites"]
    drawn = bool(record.population["drawn"]) and primary.split != "external"
    sites = () if drawn else tuple(holder["name"] for holder in holders)
    counts = {
        h["name"]: h["test" if primary.split == "external" else primary.split] for h in holders
    }
    unit, units = record.test_units() if primary.split == "test" else ("image", {})
    return Outcome(
        method=cell.method,
        setting=cell.setting,
        seed=cell.seed,
        task=scenario["data"]["task"],
        positive=scenario["data"]["positive_class"],
        metrics=tuple(dict.fromkeys([primary.metric, *scenario["evaluation"]["metrics"]])),
        scores={
            (row["site"], row["metric"]): row["value"]
            for row in record.metrics
            if (row["round"], row["split"]) == (round, primary.split)
        },
        sites=sites,
        valid=tuple(name for name in sites if are_enough(counts[name], scenario)),
        num_train={s["name"]: sum(s["train"]) for s in record.population["sites"]},
        steps=_steps(record, primary.metric),
        bytes_down=sum(row["bytes_down"] for row in record.rounds),
        bytes_up=sum(row["bytes_up"] for row in record.rounds),
        yardsticks={
            (row["baseline"], row["site"], row["metric"]): row["value"]
            for row in record.baselines
            if (row["model"], row["split"]) == (primary.model, primary.split)
            and (POOLED in (row["trained_at"], row["site"]) or row["trained_at"] == row["site"])
        },
        predictions=record.predictions(round).get(primary.split, {}),
        units=units,
        unit=unit,
        attributes=record.test_attributes() if primary.split == "test" else {},
        accounts=_accounts(record),
    )


def _accounts(record: RunRecord) -> list[Account]:
    if not record.ledger:
        return []
    from fedsim.privacy.balance import spent
    from fedsim.privacy.ledger import entries

    shared = record.population.get("shared_patients", ())
    return spent(entries(record.ledger), delta_of(record.scenario), shared)


def _steps(record: RunRecord, metric: str) -> tuple[Step, ...]:
    time: dict[int, float | None] = {0: 0.0 if _on_a_clock(record) else None}
    sent, total = {0: 0}, 0
    for row in record.rounds:
        total += row["bytes_down"] + row["bytes_up"]
        sent[row["round"]] = total
        time[row["round"]] = row["virtual"]["end_s"] if row["virtual"] else None
    return tuple(
        Step(row["round"], row["value"], time[row["round"]], sent[row["round"]])
        for row in record.metrics
        if (row["split"], row["site"], row["metric"]) == ("validation", POOLED, metric)
    )


def _on_a_clock(record: RunRecord) -> bool:
    return any(row["virtual"] for row in record.rounds)


def common_sites(runs: Iterable[Outcome]) -> tuple[str, ...]:
    """Return the sites that count in every one of some runs, in the first one's order."""
    runs = list(runs)
    if not runs:
        return ()
    return tuple(name for name in runs[0].valid if all(name in run.valid for run in runs))


def by_block(runs: Iterable[Outcome]) -> dict[tuple[str, int], list[Outcome]]:
    """Return the runs of each setting and seed together."""
    found: dict[tuple[str, int], list[Outcome]] = {}
    for run in runs:
        found.setdefault(run.block, []).append(run)
    return found


def together(parts: Sequence[Predicted]) -> Predicted:
    """Return the predictions of some sites as one."""
    scores, labels = zip(*parts, strict=True)
    return np.concatenate(scores), np.concatenate(labels)
