"""Reading a run folder, whether the run is finished, going on or dead."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clients.metrics import METRICS
from fedsim.errors import InputError
from fedsim.records.checkpoint import path_of
from fedsim.records.files import read_lines

POOLED = "pooled"


@dataclass(frozen=True)
class Selection:
    """Which round's model is reported.

    Args:
        metric: what chooses.
        higher_is_better: its direction.
        best_round: the evaluated round with the best value on pooled validation images, the first
            of equal ones; round 0 if the value was never defined.
        final_round: the last evaluated round.
    """

    metric: str
    higher_is_better: bool
    best_round: int
    final_round: int


@dataclass(frozen=True)
class RunRecord:
    """All that is recorded of a run, as plain data.

    Args:
        folder: where it stands.
        run: format, digest and settings.
        scenario: the resolved scenario.
        population: {"task", "class_names", "sites": [{"name", "train", "validation", "test"}],
            "checksums", "scanners"}; counts per class.
        environment: of the last start.
        rounds: one row per round.
        metrics: {"round", "split", "site", "metric", "value", "num_examples", "num_valid"} per
            value; `site` is a name or "pooled"; an undefined value is None.
        timing: {"round", "seconds"} per round executed.
    """

    folder: Path
    run: dict[str, Any]
    scenario: dict[str, Any]
    population: dict[str, Any]
    environment: dict[str, Any]
    rounds: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    timing: list[dict[str, Any]]

    @property
    def selection(self) -> Selection:
        """Which round's model is reported."""
        return select(self.metrics, self.scenario["evaluation"]["select_by"])

    @property
    def finished(self) -> bool:
        """Whether the checkpoint of the last round, which is written last of all, is there."""
        return path_of(self.folder, self.scenario["rounds"]).exists()


def select(metrics: Iterable[Mapping[str, Any]], metric: str) -> Selection:
    """Choose the best round by `metric` on pooled validation images.

    Args:
        metrics: rows as in `metrics.jsonl`.
        metric: name of the metric.
    """
    sign = 1 if METRICS[metric].higher_is_better else -1
    values = {
        row["round"]: row["value"]
        for row in metrics
        if (row["split"], row["site"], row["metric"]) == ("validation", POOLED, metric)
    }
    defined = {round: value for round, value in values.items() if value is not None}
    best = max(defined, key=lambda round: (sign * defined[round], -round), default=0)
    return Selection(metric, sign > 0, best, max(values, default=0))


def read(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        InputError: if it is none, or its files are damaged.
    """
    if not (folder / "run.json").is_file():
        raise InputError(f"{folder}: is no run folder (it has no run.json)")
    try:
        return RunRecord(
            folder=folder,
            run=json.loads((folder / "run.json").read_text(encoding="utf-8")),
            scenario=yaml.safe_load((folder / "scenario.yaml").read_text(encoding="utf-8")),
            population=json.loads((folder / "population.json").read_text(encoding="utf-8")),
            environment=(read_lines(folder / "environment.jsonl") or [{}])[-1],
            rounds=read_lines(folder / "rounds.jsonl"),
            metrics=read_lines(folder / "metrics.jsonl"),
            timing=read_lines(folder / "timing.jsonl"),
        )
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{folder}: is damaged: {error}") from error
