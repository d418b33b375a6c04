"""Which runs of a study are there already, and whether they are still what they were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from fedsim.data.duplicates import look_at
from fedsim.data.population import Population
from fedsim.errors import DataError, InputError
from fedsim.models import weights
from fedsim.records import RunRecord, read
from fedsim.scenario import Scenario, UnmetError, open_population
from fedsim.study.cells import PlannedCell
from fedsim.study.design import Design
from fedsim.study.folder import run_folder


def finished(folder: Path, scenario: Scenario) -> RunRecord | None:
    """Return the record of a finished run, None if it has to be run or to go on.

    Args:
        folder: of the run.
        scenario: that it must be of.

    Raises:
        InputError: if the folder holds something else.
    """
    if not folder.exists():
        return None
    try:
        record = read(folder)
    except InputError as error:
        raise InputError(f"{error}. Move {folder} away, and it is run again") from error
    if record.run["digest"] != scenario.digest:
        raise InputError(f"{folder}: is the run of another scenario; move it away")
    return record if record.finished else None


def seconds(record: RunRecord) -> float:
    """Return how long the rounds of a run took."""
    return float(sum(row["seconds"] for row in record.timing))


class Sites:
    """The sites of every cell, opened once, so that what they cannot do is told before all runs."""

    def __init__(self, design: Design) -> None:
        self._design = design
        self._checksums: dict[str, Mapping[str, str]] = {}
        self._pixels: dict[str, str] = {}
        self._weights = cache(weights.sha256)

    def check(self, cells: Iterable[PlannedCell]) -> None:
        """Open the sites of all cells.

        Raises:
            InputError: naming the cell, if its sites cannot do what its scenario asks of them, or
                the data are missing or damaged.
        """
        for cell in cells:
            self.checksums(cell)

    def checksums(self, cell: PlannedCell) -> Mapping[str, str]:
        """Return those of the data of a cell, as its source states them."""
        key = _data_key(cell)
        if key not in self._checksums:
            self._checksums[key] = _open(cell).checksums
        return self._checksums[key]

    def unchanged(self, cell: PlannedCell, record: RunRecord) -> None:
        """Refuse to compare runs on other data or starting weights than those that are there.

        Raises:
            InputError: if one of them changed since the cell was run.
        """
        recorded = record.population["checksums"]
        if other := [n for n, sum in self._contents(cell).items() if recorded.get(n) != sum]:
            raise InputError(
                f"{record.folder}: was run on other data ({', '.join(other)}). Put the data back, "
                "or give another --out for runs on the new ones"
            )

    def _contents(self, cell: PlannedCell) -> dict[str, str]:
        """Return the checksums that a run of the cell has, of pixels and weights too."""
        key, file = _data_key(cell), cell.scenario.model.weights
        if key not in self._pixels:
            self._pixels[key] = look_at(_open(cell))[0]
        found = {**self.checksums(cell), "pixels": f"sha256:{self._pixels[key]}"}
        return found if file is None else found | {file.name: f"sha256:{self._weights(file)}"}


class Shelf:
    """The finished runs of a study's cells.

    Args:
        design: of the study.
        out: folder with the runs.
    """

    def __init__(self, design: Design, out: Path) -> None:
        self.sites = Sites(design)
        self.done: list[tuple[PlannedCell, RunRecord]] = []
        self._out = out

    def look(self, cells: Iterable[PlannedCell]) -> dict[str, RunRecord]:
        """Return the finished runs of these cells by the name of the cell."""
        found = {}
        for cell in cells:
            record = finished(run_folder(cell, self._out), cell.scenario)
            if record is not None:
                self.sites.unchanged(cell, record)
                self.done.append((cell, record))
                found[cell.name] = record
        return found


def _data_key(cell: PlannedCell) -> str:
    """Return what cells with the same sites have in common."""
    scenario = cell.scenario
    asked = scenario.model_dump_json(include={"seed", "data", "population", "evaluation"})
    return f"{asked} {scenario.client.batch_size} {scenario.client.drop_last}"


def _open(cell: PlannedCell) -> Population:
    try:
        return open_population(cell.scenario)
    except (UnmetError, DataError) as error:
        raise InputError(f"{cell.name}: {error}") from error
