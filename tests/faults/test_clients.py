"""A site that sends back what is no model is named, and dropped where the scenario says so."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsim.errors import DivergedError, RunError
from fedsim.records import read
from fedsim.records.checkpoint import load
from fedsim.records.files import read_lines
from fedsim.scenario import Scenario
from fedsim.simulate import resume, run
from tests.faults.spoilt_clients import NO_MODEL, spoil
from tests.faults.trees import tree

Make = Callable[..., Scenario]
ENGINES = [1, pytest.param(2, marks=pytest.mark.slow)]
"""Numbers of workers; processes take seconds to start."""


@pytest.mark.parametrize("name", NO_MODEL)
def test_what_is_no_model_is_told_and_can_be_dropped(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spoil(monkeypatch, {("train", 2): name})
    with pytest.raises(RunError, match=f"round 2: site-01 failed to train: .*{NO_MODEL[name][1]}"):
        run(tiny(), out=tmp_path, name="abort", device="cpu")
    assert [row["round"] for row in read(tmp_path / "abort").rounds] == [1]
    record = run(tiny(on_client_failure="drop"), out=tmp_path, name="drop", device="cpu")
    assert [row["dropped"] for row in record.rounds] == [[], ["site-01"], []]


@pytest.mark.slow
def test_workers_say_and_keep_of_every_fault_what_one_process_does(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {("train", 1 + n): name for n, name in enumerate(NO_MODEL)})
    scenario = tiny(rounds=1 + len(NO_MODEL), on_client_failure="drop")
    one, two = (
        run(scenario, out=tmp_path, name=f"workers-{n}", device="cpu", workers=n) for n in (1, 2)
    )
    assert tree(two.folder) == tree(one.folder)
    assert warnings(two.folder) == warnings(one.folder)
    assert len(warnings(two.folder)) == len(NO_MODEL)


def warnings(folder: Path) -> list[str]:
    """Return what a run warned of, without the time of day."""
    lines = (folder / "log.txt").read_text().splitlines()
    return [line.partition(" WARNING ")[2] for line in lines if " WARNING " in line]


@pytest.mark.parametrize(
    ("bad", "workers"),
    [("nan", 1), ("inf", 1), ("-inf", 1), pytest.param("nan", 2, marks=pytest.mark.slow)],
)
def test_values_that_are_not_finite_stop_the_run_before_they_are_recorded(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str, workers: int
) -> None:
    spoil(monkeypatch, {("train", 2): bad})
    with pytest.raises(DivergedError, match=r"round 2: training diverged at site-01"):
        run(
            tiny(on_client_failure="drop"),
            out=tmp_path,
            name="run",
            device="cpu",
            workers=workers,
        )
    last = max((tmp_path / "run" / "checkpoints").iterdir())
    assert last.name == "round-00001.safetensors"
    assert all(bool(tensor.isfinite().all()) for tensor in load(last)["model"].values())


@pytest.mark.parametrize("workers", ENGINES)
def test_after_a_fault_a_run_goes_on_to_the_bits_of_one_without(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    whole = run(tiny(), out=tmp_path, name="whole", device="cpu")
    with monkeypatch.context() as during:
        spoil(during, {("train", 2): "shape"})
        with pytest.raises(RunError):
            run(tiny(), out=tmp_path, name="run", device="cpu", workers=workers)
    assert tree(resume(tmp_path / "run").folder) == tree(whole.folder)


@pytest.mark.parametrize("workers", ENGINES)
def test_a_site_that_never_answers_is_waited_for_until_ctrl_c(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    whole = run(tiny(), out=tmp_path, name="whole", device="cpu")
    journal = tmp_path / "run" / "rounds.jsonl"

    def stop() -> None:
        while not (journal.exists() and read_lines(journal)):
            time.sleep(0.05)
        time.sleep(1)  # round 2 is training
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as during:
        spoil(during, {("train", 2): "silent"})
        threading.Thread(target=stop, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            run(tiny(), out=tmp_path, name="run", device="cpu", workers=workers)
    signal.signal(signal.SIGINT, before)
    assert multiprocessing.active_children() == []
    assert [row["round"] for row in read_lines(journal)] == [1]
    assert tree(resume(tmp_path / "run").folder) == tree(whole.folder)


@pytest.mark.parametrize("workers", ENGINES)
def test_an_evaluation_that_cannot_be_read_is_told(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    spoil(monkeypatch, {("evaluate", 1): "nothing"})
    with pytest.raises(RunError, match="round 1: the evaluation of site-01 cannot be read"):
        run(tiny(), out=tmp_path, device="cpu", workers=workers)
