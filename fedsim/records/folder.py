"""Writing a run folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fedsim.data.source import POOLED
from fedsim.drafts import new_folder
from fedsim.errors import ExistsError, InputError, RunError
from fedsim.records import checkpoint, lock
from fedsim.records.files import (
    Journal,
    cut_torn_line,
    read_lines,
    sweep,
    to_line,
    write_text,
    writing,
)
from fedsim.records.read import (
    BASELINES,
    FORMAT,
    LEDGER,
    PREDICTIONS,
    TEST_UNITS,
    Predicted,
    read,
    select,
)
from fedsim.scenario.yaml_tree import plain, write


class RunFolder:
    """The folder of a run that is going on; at most one process writes to it.

    Args:
        path: an existing run folder.

    Raises:
        InputError: if the folder is no run folder or another process writes to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        read(path)  # so that nothing is written into what is no run folder
        self._lock = lock.hold(path)
        record = read(path)  # anew: until now another process may have gone on
        self._digest, self._keep_every = record.run["digest"], record.run["keep_every"]
        self._select_by = record.scenario["evaluation"]["select_by"]
        self._selecting = [row for row in record.metrics if self._selects(row)]
        with writing(path):
            for kind in (checkpoint.CHECKPOINTS, PREDICTIONS):
                (path / kind).mkdir(exist_ok=True)
            for kind in (checkpoint.CHECKPOINTS, PREDICTIONS, BASELINES):
                sweep(path / kind)
            sweep(path)
            for name in ("environment.jsonl", "timing.jsonl"):
                cut_torn_line(path / name)
            self._rounds = Journal(path / "rounds.jsonl")
            self._metrics = Journal(path / "metrics.jsonl")
            self._journals = {"rounds": self._rounds, "metrics": self._metrics}
            if (path / LEDGER).exists():
                self._journals["ledger"] = Journal(path / LEDGER)

    @staticmethod
    def create(
        path: Path,
        *,
        scenario: Mapping[str, Any],
        digest: str,
        population: Mapping[str, Any],
        keep_every: int | None,
        chosen: Mapping[str, Any] = MappingProxyType({}),
    ) -> RunFolder:
        """Make the folder of a new run, whole or not at all.

        Args:
            path: must not exist.
            scenario: resolved, plain data.
            digest: of the scenario.
            population: sites, classes and checksums, plain data.
            keep_every: keep the checkpoint of every so many rounds beside the last and the best.
            chosen: what trials chose before the run, and how, plain data.

        Raises:
            ExistsError: if the folder is there.
            InputError: if it cannot be made.
        """
        text = write(dict(scenario))
        plain(text)  # what could not be read again is refused before anything is trained
        if path.parent.is_file():
            raise InputError(f"{path.parent}: is a file; expected a folder for run folders")
        try:
            with new_folder(path) as draft:
                run = {
                    "format": FORMAT,
                    "digest": digest,
                    "keep_every": keep_every,
                    "chosen": dict(chosen),
                }
                write_text(draft / "run.json", json.dumps(run, indent=2) + "\n")
                write_text(draft / "population.json", json.dumps(population, indent=2) + "\n")
                write_text(draft / "scenario.yaml", text)
        except ExistsError as error:
            raise ExistsError(
                f"{error}. Go on with `fedsim resume {path}`, or choose another --run-name or --out"
            ) from None
        except RunError as error:
            raise InputError(f"{path}: cannot be made: {error}") from error
        return RunFolder(path)

    def close(self) -> None:
        """Let other processes write to the folder."""
        self._lock.close()

    def started(self, environment: Mapping[str, Any]) -> None:
        """Note on what the run is executed from now on."""
        self._grow("environment.jsonl", environment)

    def timed(self, timing: Mapping[str, Any]) -> None:
        """Note real seconds; these differ from run to run."""
        self._grow("timing.jsonl", timing)

    def add_round(self, row: dict[str, Any]) -> None:
        """Record what happened in a round."""
        self._rounds.append([row])

    def add_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Record the values of an evaluation."""
        rows = list(rows)
        self._metrics.append(rows)
        self._selecting += [row for row in rows if self._selects(row)]

    def add_releases(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write into the ledger what is about to be released; on disk when this returns."""
        if "ledger" not in self._journals:
            with writing(self.path):
                self._journals["ledger"] = Journal(self.path / LEDGER)
        self._journals["ledger"].append(rows)

    def releases(self) -> list[dict[str, Any]]:
        """Return the rows of the ledger."""
        return read_lines(self.path / LEDGER)

    def save_predictions(
        self, round: int, predictions: Mapping[str, Mapping[str, Predicted]]
    ) -> None:
        """Keep what the model of a round says of every held-out image; last and best are kept."""
        path = checkpoint.path_of(self.path, round, PREDICTIONS)
        checkpoint.save_of(self._digest, path, {"predictions": predictions})
        best = select(self._selecting, self._select_by).best_round
        for other in checkpoint.rounds(self.path, PREDICTIONS):
            if other < round and other != best:
                checkpoint.path_of(self.path, other, PREDICTIONS).unlink()

    def has_baseline(self, number: int) -> bool:
        """Return whether this training for comparison is recorded."""
        return checkpoint.path_of(self.path, number, BASELINES, "training").exists()

    def save_baseline(self, number: int, result: dict[str, Any]) -> None:
        """Record what came of a training for comparison."""
        with writing(self.path / BASELINES):
            (self.path / BASELINES).mkdir(exist_ok=True)
        path = checkpoint.path_of(self.path, number, BASELINES, "training")
        checkpoint.save_of(self._digest, path, result)

    def save_test_units(
        self,
        unit: str,
        by_site: Mapping[str, Sequence[int]],
        attributes: Mapping[str, Mapping[str, Sequence[str]]] = MappingProxyType({}),
    ) -> None:
        """Record whose each test image is.

        Args:
            unit: "image" or "patient".
            by_site: site -> a number for each test image, the same for the same unit.
            attributes: what else is known of them: attribute -> site -> value for each test image.
        """
        content: dict[str, Any] = {
            "unit": unit,
            "sites": {name: list(found) for name, found in by_site.items()},
        }
        if attributes:
            content["attributes"] = {
                name: {site: list(values) for site, values in found.items()}
                for name, found in attributes.items()
            }
        write_text(self.path / TEST_UNITS, json.dumps(content) + "\n")

    def conclude(
        self, baselines: Iterable[dict[str, Any]], intervals: Iterable[dict[str, Any]]
    ) -> None:
        """Record what is computed once, at the end; after this the run is finished."""
        self._drop_checkpoints()  # a process killed after the last was saved left others
        write_text(self.path / "baselines.jsonl", "".join(map(to_line, baselines)))
        write_text(self.path / "intervals.jsonl", "".join(map(to_line, intervals)))

    def save_checkpoint(self, round: int, state: dict[str, Any]) -> None:
        """Save all that is needed to go on after `round`, then drop what is not to be kept."""
        seals = {name: journal.seal() for name, journal in self._journals.items()}
        path = checkpoint.path_of(self.path, round)
        checkpoint.save_of(self._digest, path, {**state, "recorded": seals})
        self._drop_checkpoints()

    def _drop_checkpoints(self) -> None:
        """Drop all but the last one, the best, and those of every so many rounds."""
        rounds = self.checkpoints()
        keep = {*rounds[-1:], select(self._selecting, self._select_by).best_round}
        for round in rounds:
            if round not in keep and not (self._keep_every and round % self._keep_every == 0):
                checkpoint.path_of(self.path, round).unlink()

    def last_checkpoint(self) -> tuple[int, dict[str, Any]] | None:
        """Return the last round that can be gone on from and its state; later rows are replayed.

        Raises:
            InputError: if its checkpoint is damaged, of another run, or builds on other rows; says
                which others do not.
        """
        rounds = self.checkpoints()
        if not rounds:
            return None
        try:
            return rounds[-1], self._stand_after(rounds[-1])
        except InputError as error:
            raise InputError(f"{error}. {self._way_out(rounds[:-1])}") from error

    def _stand_after(self, round: int) -> dict[str, Any]:
        """Return the state after a round, with the journals at its rows."""
        state = checkpoint.load_of(self._digest, checkpoint.path_of(self.path, round))
        recorded = state.pop("recorded")
        for name, seal in recorded.items():
            if name not in self._journals:
                file = self.path / f"{name}.jsonl"
                raise InputError(
                    f"{file}: is missing, and the checkpoint builds on its rows; put the file back "
                    "as it was"
                )
            self._journals[name].skip(seal)
        return state

    def _way_out(self, before: Iterable[int]) -> str:
        """Return how to go on when the last checkpoint cannot be gone on from."""
        folder, good = self.path / checkpoint.CHECKPOINTS, []
        for round in before:
            with suppress(InputError):
                self._stand_after(round)
                good.append(round)
        if not good:
            return (
                f"No other checkpoint is whole: remove {folder} to make the run again from its "
                "beginning; what is recorded is then compared"
            )
        return (
            f"Whole are the checkpoints of the rounds {', '.join(map(str, good))}: remove those "
            f"after round {good[-1]} from {folder} to go on from there; what is recorded is then "
            "compared"
        )

    def num_bytes(self) -> int:
        """Return the size of the folder on disk."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def _selects(self, row: Mapping[str, Any]) -> bool:
        wanted = ("validation", POOLED, self._select_by)
        return (row["split"], row["site"], row["metric"]) == wanted

    def checkpoints(self) -> list[int]:
        """Return the rounds after which the run can go on, ascending."""
        return checkpoint.rounds(self.path)

    def _grow(self, name: str, row: Mapping[str, Any]) -> None:
        path = self.path / name
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(to_line(dict(row)))
