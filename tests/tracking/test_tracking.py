"""The numbers of a run in other tools are those of its records, each once."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import fedsim
from fedsim.cli.track_command import track as command
from fedsim.errors import InputError
from fedsim.records import RunRecord
from fedsim.scenario import Scenario
from fedsim.tracking import Tracker, scalars, track
from fedsim.tracking.scalars import Scalar


@pytest.fixture(scope="module")
def record(
    tiny: Callable[..., Scenario], tmp_path_factory: pytest.TempPathFactory
) -> fedsim.RunRecord:
    out = tmp_path_factory.mktemp("runs")
    return fedsim.run(tiny(rounds=2), out=out, name="tracked", device="cpu")


class Kept(Tracker):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.values: list[Scalar] = []
        self.ends: list[bool] = []

    def log(self, values: Iterable[Scalar]) -> None:
        self.values += values

    def close(self, finished: bool) -> None:
        self.ends.append(finished)

    @property
    def place(self) -> str:
        return "here"


def test_every_defined_value_of_the_records_is_told_by_name(record: RunRecord) -> None:
    found = {(round, name): value for round, name, value in scalars(record)}
    assert len(found) == len(list(scalars(record)))
    for row in record.metrics:
        site = "" if row["site"] == "pooled" else f"/{row['site']}"
        name = f"{row['metric']}/{row['split']}{site}"
        assert found.get((row["round"], name)) == row["value"]
    assert found[2, "train_loss"] == record.rounds[1]["train_loss"]
    assert found[1, "bytes_up"] == record.rounds[0]["bytes_up"]
    assert (1, "seconds") in found
    assert all(math.isfinite(value) for value in found.values())


def test_a_run_that_goes_on_is_followed_and_nothing_told_twice(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Going(RunRecord):
        finished = False  # type: ignore[assignment]

    early = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)} | {
        "metrics": record.metrics[:7],
        "rounds": record.rounds[:1],
    }
    reads = iter([Going(**early), Going(**early), record])
    monkeypatch.setattr("fedsim.tracking.tracker.read", lambda folder: next(reads))
    monkeypatch.setattr("fedsim.tracking.tracker.PAUSE_S", 0)
    kept = Kept()
    assert track(record.folder, kept, follow=True) is record
    assert sorted(kept.values) == sorted(scalars(record))
    assert kept.ends == [True]


def test_without_following_it_tells_what_is_there(record: RunRecord) -> None:
    kept = Kept()
    track(record.folder, kept, follow=False)
    assert kept.values == list(scalars(record))


def test_event_files_hold_the_values(record: RunRecord, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command(record.folder, to="tensorboard", out=str(tmp_path / "curves"))
    events = EventAccumulator(str(tmp_path / "curves" / "tracked")).Reload()
    told = {
        (event.step, name): event.value
        for name in events.Tags()["scalars"]
        for event in events.Scalars(name)
    }
    expected = {(round, name): value for round, name, value in scalars(record)}
    assert told.keys() == expected.keys()
    assert all(told[key] == pytest.approx(expected[key], rel=1e-6) for key in told)
    with pytest.raises(InputError, match="exists; remove it"):
        command(record.folder, to="tensorboard", out=str(tmp_path / "curves"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's dependencies warn of each other
def test_mlflow_has_values_and_scenario(record: RunRecord, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command(record.folder, to="mlflow", out=uri)
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["client.optimizer.learning_rate"] == "0.1"
    assert run.data.tags["fedsim.digest"] == record.run["digest"]
    for name in ("auroc/test", "auroc/test/site-01", "train_loss"):
        history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        assert history == {r: value for r, n, value in scalars(record) if n == name}


@pytest.mark.parametrize("to", ["tensorboard", "mlflow"])
def test_what_is_not_installed_is_named(
    record: RunRecord, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("mlflow", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install 'fedsim-medical\[{to}\]'"):
        command(record.folder, to=to, out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_run_folder_is_left_as_it_is(record: RunRecord) -> None:
    def content() -> dict[str, Any]:
        return {str(f): f.read_bytes() for f in sorted(record.folder.rglob("*")) if f.is_file()}

    before = content()
    track(record.folder, Kept(), follow=False)
    assert content() == before
    assert json.loads((record.folder / "run.json").read_text())["digest"]
