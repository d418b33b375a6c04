"""Reading a run folder, whether the run is finished, going on or dead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.errors import InputError, ScenarioError
from fedsim.records import notebook
from fedsim.records.checkpoint import load_of, path_of, rounds
from fedsim.records.files import check_seal, check_whole, read_lines
from fedsim.scenario.promises import is_private
from fedsim.scenario.yaml_tree import plain

FORMAT = 4
"""Version of the run folder; to be raised when older readers would misread it."""

PREDICTIONS, BASELINES, TEST_UNITS = "predictions", "baselines", "test_units.json"
LEDGER = "ledger.jsonl"
Predicted = tuple[NDArray[np.float32], NDArray[Any]]
"""Log-probabilities, (example, class), and classes, (example,), int64; of a regression, predicted
numbers, (example, 1), and true ones, (example,), float32."""
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "run.json": ("format",),
    "scenario.yaml": ("rounds", "evaluation"),
    "population.json": ("sites", "class_names", "images", "checksums"),
    TEST_UNITS: ("unit", "sites"),
    "rounds.jsonl": ("round",),
    "metrics.jsonl": ("round", "split", "site", "metric", "value"),
    "timing.jsonl": ("round", "seconds"),
}


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


@dataclass(frozen=True, repr=False)
class RunRecord:
    """All that is recorded of a run, as plain data.

    Args:
        folder: where it stands.
        run: format, digest and settings.
        scenario: the resolved scenario.
        population: who held what, see `fedsim.records`.
        environment: of the last start.
        rounds: one row per round.
        metrics: {"round", "split", "site", "metric", "value", "num_examples", "num_valid"} per
            value; `site` is a name or "pooled"; an undefined value is None.
        timing: {"round", "seconds"} per round executed.
        baselines: rows as in `metrics`, with {"baseline", "model", "trained_at"} in front.
        intervals: {"method", "model", "split", "site", "metric", "low", "high", "confidence",
            "num_resamples", "unit"} per bootstrap interval.
        ledger: what was released, see `fedsim.privacy.ledger`; empty where nothing is private.
    """

    folder: Path
    run: dict[str, Any]
    scenario: dict[str, Any]
    population: dict[str, Any]
    environment: dict[str, Any]
    rounds: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    timing: list[dict[str, Any]]
    baselines: list[dict[str, Any]]
    intervals: list[dict[str, Any]]
    ledger: list[dict[str, Any]]

    def __repr__(self) -> str:
        return f"<RunRecord {notebook.summary(self)}>"

    def _repr_html_(self) -> str:
        """Return what Jupyter shows."""
        return notebook.html(self)

    @cached_property
    def selection(self) -> Selection:
        """Which round's model is reported."""
        return select(self.metrics, self.scenario["evaluation"]["select_by"])

    @property
    def finished(self) -> bool:
        """Whether all that the scenario asks for is done: the intervals are written last."""
        last = self.scenario["rounds"]
        recorded = len(self.rounds) == last and self.selection.final_round == last
        concluded = (self.folder / "intervals.jsonl").exists()
        return recorded and concluded and path_of(self.folder, last).exists()

    def predictions(self, round: int) -> dict[str, dict[str, Predicted]]:
        """Return what the model of a round says of held-out images: split -> site -> predictions.

        Only the final and the best round are kept.

        Raises:
            InputError: if the round is not among them.
        """
        found = self._state(round, PREDICTIONS)["predictions"]
        return {
            split: {site: (scores, labels) for site, (scores, labels) in by_site.items()}
            for split, by_site in found.items()
        }

    def test_units(self) -> tuple[str, dict[str, NDArray[np.int64]]]:
        """Return whose each test image is: "image" or "patient", and site -> numbers of units.

        Runs on the same data, whatever their seeds, have the same number for the same unit. Empty
        where it was not recorded.
        """
        if not (self.folder / TEST_UNITS).is_file():
            return "image", {}
        found = _section(self.folder / TEST_UNITS, json.loads)
        return found["unit"], {
            site: np.array(units, np.int64) for site, units in found["sites"].items()
        }

    def test_attributes(self) -> dict[str, dict[str, list[str]]]:
        """Return what else is known of the test images: attribute -> site -> value of each.

        Empty where nothing is, or it was not recorded.
        """
        if not (self.folder / TEST_UNITS).is_file():
            return {}
        found: dict[str, dict[str, list[str]]] = _section(self.folder / TEST_UNITS, json.loads).get(
            "attributes", {}
        )
        return found

    def trainings(self) -> list[dict[str, Any]]:
        """Return what came of each training for comparison that is done, as it was saved."""
        return [
            self._state(number, BASELINES, "training")
            for number in rounds(self.folder, BASELINES, "training")
        ]

    def model(self, round: int) -> dict[str, Any]:
        """Return the global model after a round whose checkpoint is kept: name -> tensor.

        Raises:
            InputError: if it is not there, damaged, or of another run.
        """
        found: dict[str, Any] = self._state(round)["model"]
        return found

    def check_ledger(self) -> bool:
        """Return whether the last checkpoint vouches for the ledger; rows after it stand alone.

        Raises:
            InputError: if rows that were there when it was saved are missing or changed, or the
                checkpoint is damaged.
        """
        saved = rounds(self.folder)
        seal = self._state(saved[-1])["recorded"].get("ledger") if saved else None
        if seal is not None:
            check_seal(self.folder / LEDGER, seal)
        return seal is not None

    def _state(self, number: int, *kind: str) -> dict[str, Any]:
        return load_of(self.run["digest"], path_of(self.folder, number, *kind))


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


def are_enough(counts: Sequence[int], scenario: Mapping[str, Any]) -> bool:
    """Return whether a site with these images per class counts for means over sites.

    Enough of every class, or of a regression enough in all.

    Args:
        counts: examples per class.
        scenario: resolved, plain data.
    """
    fewest = sum(counts) if scenario["data"]["task"] == "regression" else min(counts)
    return bool(fewest >= scenario["evaluation"]["min_per_class"])


def read(folder: str | Path) -> RunRecord:
    """Read a run folder.

    Raises:
        InputError: if it is none, was written in another format, its files are damaged, or the run
            is finished and its ledger is no longer what it was.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise InputError(f"{folder}: is no run folder (it has no run.json)")
    run = _section(folder / "run.json", json.loads)
    if run["format"] != FORMAT:
        raise InputError(
            f"{folder}: was written in format {run['format']}, this fedsim reads format {FORMAT}; "
            "use the version in its environment.jsonl"
        )
    with _checked(folder / "run.json"):
        _need(run, ("digest", "keep_every", "chosen"))
    if not isinstance(run["keep_every"], int | None):
        raise InputError(f"{folder / 'run.json'}: is damaged: keep_every is no number")
    scenario = _scenario(folder / "scenario.yaml")
    trained, ledger = _rows(folder / "rounds.jsonl"), _rows(folder / LEDGER)
    if trained and not ledger and is_private(scenario):
        raise InputError(
            f"{folder / LEDGER}: is missing or has no whole line, although the run is private and "
            "has trained; put the file back as it was"
        )
    record = RunRecord(
        folder=folder,
        run=run,
        scenario=scenario,
        population=_section(folder / "population.json", json.loads),
        environment=(_rows(folder / "environment.jsonl") or [{}])[-1],
        rounds=trained,
        metrics=_rows(folder / "metrics.jsonl"),
        timing=_rows(folder / "timing.jsonl"),
        baselines=_rows(folder / "baselines.jsonl"),
        intervals=_rows(folder / "intervals.jsonl"),
        ledger=ledger,
    )
    if ledger and record.finished:
        check_whole(folder / LEDGER)
        record.check_ledger()
    return record


def _scenario(path: Path) -> dict[str, Any]:
    found = _section(path, plain)
    with _checked(path):
        evaluation = found["evaluation"]
        if not isinstance(evaluation, dict) or evaluation.get("select_by") not in METRICS:
            raise ValueError("evaluation.select_by is no metric")
        if not isinstance(found["rounds"], int):
            raise ValueError("rounds is no number")
    return found


def _section(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    with _checked(path):
        content = parse(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("expected keys and values")
        _need(content, _NEEDED[path.name])
        return content


def _need(content: Mapping[str, Any], keys: Iterable[str]) -> None:
    if missing := [key for key in keys if key not in content]:
        raise ValueError(f"it lacks {', '.join(missing)}")


def _rows(path: Path) -> list[dict[str, Any]]:
    with _checked(path):
        rows = read_lines(path)
        needed = _NEEDED.get(path.name, ())
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: expected an object")
            if missing := [key for key in needed if key not in row]:
                raise ValueError(f"line {number} lacks {', '.join(missing)}")
        return rows


@contextmanager
def _checked(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RecursionError, ScenarioError) as error:
        raise InputError(f"{path}: is damaged: {error}") from error
