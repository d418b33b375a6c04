"""A run folder is made whole, has one writer, and keeps the checkpoints that are worth it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fedsim.errors import InputError, RunError
from fedsim.records import RunFolder, RunRecord, read
from fedsim.records.checkpoint import path_of
from fedsim.records.files import read_lines
from fedsim.scenario import Scenario
from fedsim.simulate import run

LAST = 5


def making(select_by: str = "auroc", keep_every: int | None = None) -> dict[str, Any]:
    """Return what a folder is made from."""
    return {
        "scenario": {"rounds": LAST, "evaluation": {"select_by": select_by}, "description": "ü"},
        "digest": "d1",
        "population": {
            "sites": [],
            "class_names": ["sain", "œdème"],
            "images": {},
            "checksums": {},
        },
        "keep_every": keep_every,
    }


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., RunFolder]]:
    folders = []

    def create(**options: Any) -> RunFolder:
        folders.append(RunFolder.create(tmp_path / "run", **making(**options)))
        return folders[-1]

    yield create
    for folder in folders:
        folder.close()


def row(round: int, value: float | None, **changes: Any) -> dict[str, Any]:
    """Return a row of metrics.jsonl; by default one that selects."""
    whole = {"round": round, "split": "validation", "site": "pooled", "metric": "auroc"}
    return {**whole, "value": value, "num_examples": 9, "num_valid": 9, **changes}


def saved(folder: Path) -> list[int]:
    files = sorted((folder / "checkpoints").iterdir())
    return [int(file.stem.removeprefix("round-")) for file in files]


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return all files and folders below, hidden ones too."""
    return {
        str(file.relative_to(folder)): file.read_bytes() if file.is_file() else None
        for file in folder.rglob("*")
    }


def test_a_new_folder_says_what_will_run(make: Callable[..., RunFolder]) -> None:
    path = make(keep_every=2).path
    record = read(path)
    assert record.run == {"format": 4, "digest": "d1", "keep_every": 2, "chosen": {}}
    assert record.scenario == making()["scenario"]
    assert record.population == making()["population"]
    assert (record.rounds, record.metrics, record.timing, record.environment) == ([], [], [], {})
    assert not record.finished
    assert path.stat().st_mode & 0o777 == 0o755


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    before = everything(tmp_path)
    with pytest.raises(InputError, match="exists already; nothing was changed"):
        RunFolder.create(tmp_path / "run", **making())
    assert everything(tmp_path) == before


def test_a_folder_that_appears_meanwhile_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    before = everything(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda path: False)
        with pytest.raises(
            InputError, match=r"run: exists already; nothing was changed\. Go on with"
        ):
            RunFolder.create(tmp_path / "run", **making())
    assert everything(tmp_path) == before


class Odd:
    """Nothing that YAML or JSON can hold."""


@pytest.mark.parametrize("section", ["scenario", "population", "digest"])
def test_a_failure_leaves_nothing(tmp_path: Path, section: str) -> None:
    broken = {**making(), section: {"odd": Odd()} if section != "digest" else Odd()}
    with pytest.raises(Exception, match="Odd"):
        RunFolder.create(tmp_path / "run", **broken)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_and_is_named(tmp_path: Path) -> None:
    script = """
import pathlib, resource, sys
from fedsim.errors import InputError
from fedsim.records import RunFolder
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
population = {"sites": ["x" * 9999]}
try:
    RunFolder.create(pathlib.Path(sys.argv[1]), scenario={}, digest="", population=population,
                     keep_every=None)
except InputError as error:
    print(error, end="")
"""
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path / 'run'}: cannot be made: ")
    assert done.stdout.endswith("population.json: cannot be written: File too large")
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(InputError, match=r"runs: is a file; expected a folder"):
        RunFolder.create(tmp_path / "runs" / "run", **making())


def test_a_second_writer_is_refused_until_the_first_is_done(
    make: Callable[..., RunFolder],
) -> None:
    first = make()
    before = everything(first.path)
    with pytest.raises(InputError, match="another process is running this"):
        RunFolder(first.path)
    assert everything(first.path) == before
    first.add_round({"round": 1})
    first.close()
    RunFolder(first.path).close()


def test_the_lock_holds_between_processes_and_dies_with_its_owner(
    make: Callable[..., RunFolder],
) -> None:
    folder = make()
    path = folder.path
    make_writer = (
        "import pathlib, sys\nfrom fedsim.records import RunFolder\n"
        "folder = RunFolder(pathlib.Path(sys.argv[1]))\nprint('writing', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", make_writer, str(path)]
    refused = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert refused.returncode
    assert f"another process is running this (process {os.getpid()} on " in refused.stderr
    folder.close()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"writing\n"
        with pytest.raises(InputError, match="another process"):
            RunFolder(path)
        other.kill()
    RunFolder(path).close()


def test_reading_needs_no_lock_and_leaves_no_trace(make: Callable[..., RunFolder]) -> None:
    folder = make()
    folder.add_round({"round": 1})
    with (folder.path / "rounds.jsonl").open("a") as file:
        file.write('{"round": 2, "coh')
    before = everything(folder.path)
    assert [row["round"] for row in read(folder.path).rounds] == [1]
    assert everything(folder.path) == before


def test_no_run_folder_gets_no_lock(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="is no run folder"):
            RunFolder(path)
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_killed_writer_are_removed(make: Callable[..., RunFolder]) -> None:
    folder = make()
    folder.save_checkpoint(0, {})
    folder.close()
    (folder.path / "checkpoints" / ".round-00001.safetensors.77.tmp").write_bytes(b"half")
    RunFolder(folder.path).close()
    assert saved(folder.path) == [0]


RISING = [0.5, 0.6, 0.9, 0.8, 0.9, 0.7]
FALLING = [1 - value for value in RISING]
UNDEFINED = [None] * 6


@pytest.mark.parametrize(
    ("metric", "values", "keep_every", "kept"),
    [
        ("auroc", RISING, None, [[0], [1], [2], [2, 3], [2, 4], [2, 5]]),
        ("auroc", FALLING, None, [[0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]),
        ("loss", FALLING, None, [[0], [1], [2], [2, 3], [2, 4], [2, 5]]),
        ("loss", RISING, None, [[0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]),
        ("auroc", UNDEFINED, None, [[0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]),
        ("auroc", [None, 0.2, None, None, 0.3, 0.1], None, [[0], [1], [1, 2], [1, 3], [4], [4, 5]]),
        ("auroc", RISING, 3, [[0], [0, 1], [0, 2], [0, 2, 3], [0, 2, 3, 4], [0, 2, 3, 5]]),
        ("auroc", RISING, 1, [list(range(n + 1)) for n in range(6)]),
    ],
)
def test_last_best_and_every_so_many_are_kept(
    make: Callable[..., RunFolder],
    metric: str,
    values: list[float | None],
    keep_every: int | None,
    kept: list[list[int]],
) -> None:
    folder = make(select_by=metric, keep_every=keep_every)
    other = {"auroc": "loss", "loss": "auroc"}[metric]
    for round, value in enumerate(values):
        decoys = [
            row(round, 1 - 0.01 * round, metric=metric, split="test"),
            row(round, 0.01 * round, metric=metric, site="site-00"),
            row(round, 0.01 * round, metric=other),
        ]
        folder.add_metrics(iter([*decoys, row(round, value, metric=metric)]))
        folder.save_checkpoint(round, {"round": round})
        assert saved(folder.path) == kept[round]
        assert folder.last_checkpoint() == (round, {"round": round})
    best = read(folder.path).selection.best_round
    assert path_of(folder.path, best).exists()


def test_the_best_is_kept_over_an_interruption(make: Callable[..., RunFolder]) -> None:
    folder = make()
    for round, value in enumerate(RISING[:4]):
        folder.add_metrics([row(round, value)])
        folder.save_checkpoint(round, {})
    folder.close()
    again = RunFolder(folder.path)
    assert again.last_checkpoint() == (3, {})
    again.add_metrics([row(4, 0.1)])
    again.save_checkpoint(4, {})
    again.close()
    assert saved(folder.path) == [2, 4]


def test_rounds_that_are_not_evaluated_are_not_the_best(make: Callable[..., RunFolder]) -> None:
    folder = make()
    for round in range(6):
        if round % 2 == 0:
            folder.add_metrics([row(round, RISING[round])])
        folder.save_checkpoint(round, {})
    assert saved(folder.path) == [2, 5]
    assert read(folder.path).selection.final_round == 4


def test_rows_after_the_last_checkpoint_are_replayed(make: Callable[..., RunFolder]) -> None:
    folder = make()
    assert folder.last_checkpoint() is None
    for round in (1, 2, 3):
        folder.add_round({"round": round})
        folder.add_metrics([row(round, 0.5, site=site) for site in ("pooled", "site-00")])
        if round < 3:
            folder.save_checkpoint(round, {"weights": torch.ones(2)})
    folder.close()
    before = everything(folder.path)
    again = RunFolder(folder.path)
    assert (saved_state := again.last_checkpoint()) is not None
    assert saved_state[0] == 2
    again.add_round({"round": 3})
    again.add_metrics([row(3, 0.5, site=site) for site in ("pooled", "site-00")])
    assert everything(folder.path) == before
    again.add_round({"round": 4})
    assert [row["round"] for row in read_lines(folder.path / "rounds.jsonl")] == [1, 2, 3, 4]
    again.close()


def test_without_the_ledger_nobody_goes_on(make: Callable[..., RunFolder]) -> None:
    folder = make()
    for round in (1, 2):
        folder.add_releases([{"round": round}])
        folder.add_round({"round": round})
        folder.save_checkpoint(round, {})
    folder.close()
    (folder.path / "ledger.jsonl").unlink()
    again = RunFolder(folder.path)
    with pytest.raises(InputError, match=r"ledger\.jsonl: is missing, and the checkpoint builds"):
        again.last_checkpoint()
    again.close()


def test_a_run_is_finished_when_it_is_concluded(make: Callable[..., RunFolder]) -> None:
    folder = make()
    for round in range(LAST + 1):
        assert not read(folder.path).finished
        if round:
            folder.add_round({"round": round})
        folder.add_metrics([row(round, 0.5)])
        folder.save_checkpoint(round, {})
    assert not read(folder.path).finished
    folder.conclude([{"baseline": "local"}], [{"low": 0.1}])
    record = read(folder.path)
    assert record.finished
    assert (record.baselines, record.intervals) == ([{"baseline": "local"}], [{"low": 0.1}])


def test_predictions_of_the_last_and_the_best_round_are_kept(
    make: Callable[..., RunFolder],
) -> None:
    folder = make()
    scores, labels = np.zeros((2, 3), np.float32), np.array([0, 1])
    for round, value in enumerate([0.5, 0.9, 0.7, 0.6][: LAST + 1]):
        folder.add_metrics([row(round, value)])
        folder.save_predictions(round, {"test": {"a/b": (scores + round, labels)}})
        folder.save_checkpoint(round, {})
    record = read(folder.path)
    for round in (1, min(3, LAST)):
        found, truth = record.predictions(round)["test"]["a/b"]
        np.testing.assert_array_equal(found, scores + round)
        np.testing.assert_array_equal(truth, labels)
    with pytest.raises(InputError):
        record.predictions(0)


def test_trainings_for_comparison_are_kept_in_order(make: Callable[..., RunFolder]) -> None:
    folder = make()
    for number in (1, 0):
        assert not folder.has_baseline(number)
        folder.save_baseline(number, {"kind": "local", "name": f"site {number}"})
        assert folder.has_baseline(number)
    assert [part["name"] for part in read(folder.path).trainings()] == ["site 0", "site 1"]


def test_every_start_and_every_time_is_noted(make: Callable[..., RunFolder]) -> None:
    folder = make()
    folder.started({"python": "3.11"})
    folder.started({"python": "3.12"})
    folder.timed({"round": 0, "seconds": 0.1})
    folder.timed({"round": 0, "seconds": 0.2})
    record = read(folder.path)
    assert record.environment == {"python": "3.12"}
    assert [row["seconds"] for row in record.timing] == [0.1, 0.2]
    assert len(read_lines(folder.path / "environment.jsonl")) == 2
    size = sum(len(content or b"") for content in everything(folder.path).values())
    assert folder.num_bytes() == size > 0


def test_what_cannot_be_noted_is_a_run_error(make: Callable[..., RunFolder]) -> None:
    folder = make()
    (folder.path / "timing.jsonl").mkdir()
    with pytest.raises(RunError, match=r"timing\.jsonl: cannot be written: Is a directory"):
        folder.timed({"round": 0, "seconds": 0.1})


# What the package says of the rows of a real run.

SCORE = {
    "round": int,
    "split": str,
    "site": str,
    "metric": str,
    "value": (float, type(None)),
    "num_examples": int,
    "num_valid": int,
}
ROUND = {
    "round": int,
    "cohort": list,
    "dropped": list,
    "attackers": list,
    "absent": list,
    "virtual": (dict, type(None)),
    "train_loss": (float, type(None)),
    "site_train_loss": dict,
    "num_examples": dict,
    "bytes_down": int,
    "bytes_up": int,
    "loss_decomposition": (dict, type(None)),
}
VIRTUAL = {"begin_s": float, "end_s": float, "tasks": list}
TASK = {
    "site": str,
    "counted": bool,
    "staleness": int,
    "start_s": float,
    "downloaded_s": float,
    "computed_s": float,
    "uploaded_s": float,
}
TERMS = {
    "local_loss": (float, type(None)),
    "distribution_shift_loss": (float, type(None)),
    "aggregation_loss": (float, type(None)),
    "global_loss": (float, type(None)),
    "num_local_examples": int,
    "num_pooled_examples": int,
}


@pytest.fixture(scope="module")
def record(tiny: Callable[..., Scenario], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """Return a run of four rounds, two of them evaluated, with cohorts of which one is empty."""
    scenario = tiny(
        rounds=4,
        cohort={"kind": "poisson", "sampling_rate": 0.4},
        evaluation={"every": 2, "metrics": ["auroc", "loss"]},
    )
    return run(scenario, out=tmp_path_factory.mktemp("runs"), device="cpu")


def fits(row: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Return whether a row has these keys, in order, and types; a bool is no int."""
    typed = all(isinstance(row[key], kind) for key, kind in schema.items() if key in row)
    return list(row) == list(schema) and typed and bool not in map(type, row.values())


def test_scores_are_as_documented(record: RunRecord) -> None:
    assert all(fits(row, SCORE) for row in record.metrics)
    names = [site["name"] for site in record.population["sites"]]
    keys = [(row["round"], row["split"], row["site"], row["metric"]) for row in record.metrics]
    assert keys == [
        (round, split, site, metric)
        for round in (0, 2, 4)
        for split in ("validation", "test")
        for site in ("pooled", *names)
        for metric in ("auroc", "loss")
    ]
    for row in record.metrics:
        assert row["num_valid"] <= row["num_examples"]
        sizes = [sum(site[row["split"]]) for site in record.population["sites"]]
        size = dict(zip(names, sizes, strict=True)).get(row["site"], sum(sizes))
        assert row["num_examples"] == size


def test_rounds_are_as_documented(record: RunRecord) -> None:
    assert [row["round"] for row in record.rounds] == [1, 2, 3, 4]
    assert {bool(row["cohort"]) for row in record.rounds} == {True, False}, "choose another seed"
    train = {site["name"]: sum(site["train"]) for site in record.population["sites"]}
    for row in record.rounds:
        assert fits(row, ROUND)
        assert row["cohort"] == sorted(row["cohort"])
        assert list(row["site_train_loss"]) == list(row["num_examples"]) == row["cohort"]
        assert row["num_examples"] == {name: train[name] for name in row["cohort"]}
        assert all(type(loss) is float for loss in row["site_train_loss"].values())
        measured = bool(row["cohort"]) and row["round"] % 2 == 0
        assert (row["loss_decomposition"] is not None) == measured
        assert (row["train_loss"] is None) == (not row["cohort"])
        assert (row["bytes_up"] > 0) == (row["bytes_down"] > 0) == bool(row["cohort"])
        if measured:
            assert fits(row["loss_decomposition"], TERMS)


def test_virtual_time_is_as_documented(tiny: Callable[..., Scenario], tmp_path: Path) -> None:
    scenario = tiny(
        rounds=2,
        population={
            "num_sites": 3,
            "devices": [
                {"profile": "l4", "sites": ["site-00", "site-01"]},
                {"profile": "cpu-16c", "sites": ["site-02"], "uplink_mbps": 0.1},
            ],
            "outages": [{"sites": ["site-01"], "from_round": 2}],
        },
        round_policy={"kind": "deadline", "seconds": 0.2},
    )
    found = run(scenario, out=tmp_path, device="cpu")
    assert found.population["devices"] == {
        "site-00": "l4",
        "site-01": "l4",
        "site-02": "cpu-16c",
    }
    assert [row["cohort"] for row in found.rounds] == [["site-00", "site-01"], ["site-00"]]
    assert [row["absent"] for row in found.rounds] == [[], ["site-01"]]
    for row in found.rounds:
        assert fits(row, ROUND)
        assert fits(row["virtual"], VIRTUAL)
        assert all(
            list(task) == list(TASK)
            and all(isinstance(task[key], kind) for key, kind in TASK.items())
            for task in row["virtual"]["tasks"]
        )
        counted = {task["site"]: task["counted"] for task in row["virtual"]["tasks"]}
        assert counted == {**dict.fromkeys(row["cohort"], True), "site-02": False}
    assert [row["virtual"]["begin_s"] for row in found.rounds] == [0.0, 0.2]


def test_every_documented_key_is_checked_here() -> None:
    import fedsim.records

    text = fedsim.records.__doc__ or ""
    assert all(key in text for key in (*SCORE, *ROUND, *TERMS, *VIRTUAL, *TASK))


def test_pandas_reads_the_journals(record: RunRecord) -> None:
    scores = pd.read_json(record.folder / "metrics.jsonl", lines=True)
    assert list(scores.columns) == list(SCORE)
    assert len(scores) == len(record.metrics)
    for number, expected in enumerate(record.metrics):
        found = scores.value[number]
        assert found == pytest.approx(expected["value"]) if expected["value"] else pd.isna(found)
    rounds = pd.read_json(record.folder / "rounds.jsonl", lines=True)
    assert rounds["cohort"].tolist() == [row["cohort"] for row in record.rounds]


def test_the_other_files_are_as_documented(record: RunRecord) -> None:
    assert {file.name for file in record.folder.iterdir()} == {
        ".lock",
        "scenario.yaml",
        "run.json",
        "population.json",
        "environment.jsonl",
        "rounds.jsonl",
        "metrics.jsonl",
        "timing.jsonl",
        "log.txt",
        "checkpoints",
        "predictions",
        "baselines.jsonl",
        "intervals.jsonl",
        "test_units.json",
    }
    assert set(record.population) == {
        "task",
        "class_names",
        "images",
        "sites",
        "external",
        "drawn",
        "duplicates",
        "licence",
        "citation",
        "checksums",
        "appearance",
        "num_mislabelled",
        "shared_patients",
        "knowledge",
        "target_unit",
        "devices",
        "adversaries",
    }
    assert record.population["devices"] == {}
    for site in record.population["sites"]:
        assert set(site) == {"name", "train", "validation", "test"}
        assert {len(site[split]) for split in ("train", "validation", "test")} == {2}
    assert [set(row) for row in record.timing] == [{"round", "seconds"}] * 5
    assert json.loads((record.folder / "run.json").read_text())["keep_every"] is None


@pytest.mark.parametrize("name", ["environment.jsonl", "timing.jsonl"])
def test_a_torn_note_does_not_spoil_the_folder(make: Callable[..., RunFolder], name: str) -> None:
    folder = make()
    folder.started({"python": "3.11"})
    folder.timed({"round": 0, "seconds": 1.0})
    folder.close()
    with (folder.path / name).open("r+b") as file:
        file.truncate(file.seek(0, 2) - 5)
    again = RunFolder(folder.path)
    again.started({"python": "3.12"})
    again.timed({"round": 1, "seconds": 1.0})
    again.close()
    assert read(folder.path).environment == {"python": "3.12"}
