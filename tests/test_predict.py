"""Pictures are judged as the run judged its own images, from a run folder and from an export."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fedsim
from fedsim.data.unpacking import unpack
from fedsim.errors import InputError
from fedsim.records import RunRecord
from fedsim.scenario import Scenario, open_population


@pytest.fixture(scope="module")
def study(
    tiny: Callable[..., Scenario], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunRecord, Path, Scenario]:
    """Return a run with scanners at its sites, and its images as pictures."""
    folder = tmp_path_factory.mktemp("study")
    scenario = tiny(
        population={"num_sites": 3, "appearance": {"kind": "scanner", "severity": "severe"}}
    )
    unpack(open_population(scenario), folder / "pictures", lambda done, total: None)
    return fedsim.run(scenario, out=folder, device="cpu"), folder / "pictures", scenario


def expected(record: RunRecord, scenario: Scenario) -> dict[str, Any]:
    """Return the recorded probabilities by the path of the picture."""
    population = open_population(scenario)
    found = {}
    for site, (name, (scores, _)) in enumerate(
        record.predictions(record.selection.best_round)["test"].items()
    ):
        for position, row in zip(population.indices[site]["test"], scores, strict=True):
            label = population.class_names[population.labels[position]]
            found[f"{name}/test/{label}/{position:06d}.png"] = np.exp(row)
    return found


@pytest.mark.parametrize("source", ["run", "export"])
@pytest.mark.parametrize("listed", ["manifest.csv", "."])
def test_pictures_are_judged_as_the_run_did(
    study: tuple[RunRecord, Path, Scenario], source: str, listed: str
) -> None:
    record, pictures, scenario = study
    folder = record.folder if source == "run" else fedsim.export(record.folder)
    rows = fedsim.predict(folder, pictures / listed, device="cpu")
    assert len(rows) == 120
    assert list(rows[0]) == ["path", "predicted", "p(normal)", "p(opacity)"]
    by_path = {row["path"]: row for row in rows}
    for path, probabilities in expected(record, scenario).items():
        row = by_path[path]
        found = [row["p(normal)"], row["p(opacity)"]]
        np.testing.assert_allclose(found, probabilities, atol=1e-6)
        assert row["predicted"] == ("normal", "opacity")[int(probabilities.argmax())]


def test_one_picture_of_another_size_is_brought_to_size(
    study: tuple[RunRecord, Path, Scenario], tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((40, 90, 3), np.uint8)).save(tmp_path / "new.jpg")
    (row,) = fedsim.predict(study[0].folder, tmp_path / "new.jpg")
    assert row["path"] == "new.jpg"
    assert row["p(normal)"] + row["p(opacity)"] == pytest.approx(1)


def test_hidden_files_are_passed_over(
    study: tuple[RunRecord, Path, Scenario], tmp_path: Path
) -> None:
    for name in ("._a.png", "b.png", ".trash/c.png", "d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "b.png")
    assert [row["path"] for row in fedsim.predict(study[0].folder, tmp_path)] == ["b.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: (p / "x.csv").write_text("file\na.png\n") and p / "x.csv", "lacks the column"),
        (lambda p: (p / "x.csv").write_text("path\n") and p / "x.csv", "lists no pictures"),
        (lambda p: p, "holds no pictures"),
        (lambda p: p / "missing.png", "missing.png: cannot be read"),
        (lambda p: (p / "x.png").write_text("no") and p / "x.png", "is no picture"),
    ],
)
def test_what_cannot_be_read_is_told(
    study: tuple[RunRecord, Path, Scenario],
    tmp_path: Path,
    make: Callable[[Path], Path],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        fedsim.predict(study[0].folder, make(tmp_path))


def test_the_command_writes_a_csv_and_never_over_one(
    study: tuple[RunRecord, Path, Scenario], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    from fedsim.cli import main

    def call(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["fedsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    record, pictures, _ = study
    code, out, _ = call("export", record.folder, "--out", tmp_path / "export")
    assert (code, out.strip()) == (0, str(tmp_path / "export"))
    code, _, err = call("predict", tmp_path / "export", pictures, "--which", "final")
    assert code == 2
    assert "is an export of the best round" in err
    code, out, _ = call("export", record.folder, "--format", "safetensors", "--which", "final")
    assert {file.name for file in Path(out.strip()).iterdir()} == {
        "MODEL_CARD.md",
        "model.json",
        "model.safetensors",
    }
    call("export", record.folder, "--format", "torchscript", "--format", "pt2")
    assert {"model.pt", "model.pt2"} < {file.name for file in Path(out.strip()).iterdir()}
    code, out, _ = call("predict", tmp_path / "export", pictures / "site-00")
    rows = list(csv.DictReader(out.splitlines()))
    assert code == 0
    found = fedsim.predict(tmp_path / "export", pictures / "site-00")
    assert [float(row["p(opacity)"]) for row in rows] == [row["p(opacity)"] for row in found]
    target = tmp_path / "out" / "p.csv"
    assert call("predict", record.folder, pictures / "site-00", "--out", target)[0] == 0
    assert list(csv.DictReader(target.read_text().splitlines())) == rows
    code, _, err = call("predict", record.folder, pictures, "--out", target)
    assert code == 2
    assert "exists; name another file" in err
