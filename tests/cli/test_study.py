"""`fedsim study` and what other commands know of studies."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsim import simulate
from fedsim.cli.study_progress import state, watching_study
from fedsim.errors import RunError
from fedsim.study.progress import Running, StudyProgress


@pytest.fixture
def file(tmp_path: Path, tiny: Any) -> Path:
    evaluation = {"metrics": ["auroc", "loss"], "loss_decomposition": False}
    study = {
        "version": 1,
        "name": "small",
        "question": "Does the principal gradient beat the mean?",
        "base": tiny(rounds=2, evaluation=evaluation).resolved(),
        "primary": {
            "metric": "auroc",
            "reference": "mean",
            "smallest_difference_of_interest": 0.05,
        },
        "methods": {"mean": {}, "principal": {"set": {"strategy": {"kind": "principal_gradient"}}}},
        "seeds": 2,
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def test_a_study_is_run_and_its_folder_named_last(fedsim: Any, file: Path, tmp_path: Path) -> None:
    code, out, err = fedsim("study", file, "--out", tmp_path / "runs", "--device", "cpu")
    assert code == 0
    *before, folder = out.splitlines()
    assert (Path(folder) / "study.json").is_file()
    assert before[0] == "note: no method is tuned: all run as they are set"
    comparison = json.loads((Path(folder) / "comparison.json").read_text())
    assert comparison["sentences"]
    assert {f"- {sentence}" for sentence in comparison["sentences"]} <= set(before)
    assert (Path(folder) / "report/index.html").is_file()
    assert (Path(folder) / "report/comparison.tex").is_file()
    lines = err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "cell 1/4: final/mean/base/seed 0 done",
        "cell 2/4: final/mean/base/seed 1 done",
        "cell 3/4: final/principal/base/seed 0 done",
        "cell 4/4: final/principal/base/seed 1 done",
    ]
    assert "left)" in lines[0]
    assert fedsim("study", folder) == (0, out, "")  # goes on, finds all there


def test_json_has_a_line_per_cell_and_the_study_last(
    fedsim: Any, file: Path, tmp_path: Path
) -> None:
    code, out, err = fedsim("study", file, "--out", tmp_path, "--device", "cpu", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [event["event"] for event in events] == ["cell"] * 4 + ["done"]
    assert [event["num_done"] for event in events[:4]] == [1, 2, 3, 4]
    assert events[3]["seconds_left"] == 0
    assert events[4]["failures"] == []
    assert events[4]["sentences"]


def test_a_failed_cell_is_told_at_the_end(
    fedsim: Any, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = simulate.run

    def fail(scenario: Any, **keys: Any) -> Any:
        if scenario.description == "principal; base" and scenario.seed == 1:
            raise RunError("the disk is full")
        return run(scenario, **keys)

    monkeypatch.setattr(simulate, "run", fail)
    code, out, err = fedsim("study", file, "--out", tmp_path / "runs", "-q", "--device", "cpu")
    assert code == 1
    assert "failed: final/principal/base/seed 1: RunError: the disk is full" in err
    assert "1 of the cells to compare failed" in err
    assert Path(out.strip()).is_dir()


def test_a_dry_run_says_what_would_run_and_writes_nothing(
    fedsim: Any, file: Path, tmp_path: Path
) -> None:
    code, out, _ = fedsim("study", file, "--out", tmp_path / "runs", "--dry-run")
    assert code == 0
    assert "estimated from a probe" in out
    assert "not known before a pilot" in out
    assert str(tmp_path / "runs" / "small-") in out.replace("\n", "")
    assert not (tmp_path / "runs").exists()
    code, out, _ = fedsim("study", file, "--out", tmp_path / "runs", "--dry-run", "--json")
    assert [entry["num_finals"] for entry in json.loads(out)["entries"]] == [2, 2]


def test_a_pilot_tells_what_the_seeds_can_show(fedsim: Any, file: Path, tmp_path: Path) -> None:
    where = ("--out", tmp_path / "runs", "--device", "cpu")
    assert fedsim("study", file, *where, "--pilot", "2", "-q")[0] == 0
    code, out, _ = fedsim("study", file, *where, "--dry-run")
    assert code == 0
    assert "what 2 seeds show with 80 % power" in out
    power = json.loads(fedsim("study", file, *where, "--dry-run", "--json")[1])["power"]
    (row,) = power["rows"]
    assert (row["method"], row["num_pairs"], power["num_seeds"]) == ("principal", 2, 2)
    assert row["detectable"] > 0


def test_validate_knows_studies(fedsim: Any, file: Path) -> None:
    code, out, _ = fedsim("validate", file)
    assert code == 0
    assert "2 methods x 1 settings x 2 seeds: 4 cells to compare, 0 of tuning" in out
    code, _, err = fedsim("validate", file, "--set", "primary.reference=meen")
    assert code == 2
    assert "did you mean 'mean'?" in err


def test_the_schema_of_studies(fedsim: Any) -> None:
    code, out, _ = fedsim("schema", "--study")
    assert code == 0
    assert {"base", "methods", "primary", "vary", "tune", "seeds"} <= json.loads(out)[
        "properties"
    ].keys()


def test_a_wrong_number_of_workers_is_refused(fedsim: Any, file: Path) -> None:
    code, _, err = fedsim("study", file, "--workers", "none")
    assert (code, "expected a number above 0, or auto" in err) == (2, True)


def test_the_state_of_a_study_in_words() -> None:
    some = StudyProgress(4, 1, 2, 10, (), 90.0)
    assert state(some) == "1 failed, 2 were there, about 90 s left"
    assert state(StudyProgress(10, 0, 0, 10, (), 0.0)) == ""


def test_a_terminal_shows_all_cells_and_those_that_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    long = f"final/fedavg/{'population.partition.alpha=0.1, ' * 4}/seed 3"
    with watching_study(quiet=False, as_json=False) as watch:
        watch(StudyProgress(1, 0, 0, 4, (Running(long, 2, 9, ""),), None))
        watch(StudyProgress(2, 1, 0, 4, (Running("final/b", 1, 9, ""),), 30.0, long, "no [room]"))
    shown = capsys.readouterr().err
    assert "3/4" in shown
    assert "1 failed, about 30 s left" in shown
    assert "final/b" in shown
    assert "2/9" not in shown.rpartition("3/4")[2]  # what is done is shown no longer
