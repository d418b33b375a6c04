"""A site that sends back what is no model is named, and dropped where the scenario says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedsim.engines.inline import InlineGrid
from fedsim.errors import DivergedError, RunError
from fedsim.records import read
from fedsim.records.checkpoint import load
from fedsim.scenario import Scenario
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
Fault = Callable[[RecordDict], Any]


def arrays(content: RecordDict) -> ArrayRecord:
    return content.array_records["arrays"]


def first(content: RecordDict) -> str:
    return next(iter(arrays(content)))


def put(content: RecordDict, name: str, values: Any) -> None:
    arrays(content)[name] = Array(np.asarray(values))


def num(content: RecordDict, value: float) -> None:
    content["metrics"] = MetricRecord({"num-examples": value, "train_loss": 1.0})


FAULTS: dict[str, tuple[Fault, str]] = {
    "nothing": (lambda c: c.clear(), "its reply has no number 'train_loss'"),
    "no model": (lambda c: c.pop("arrays"), "its reply has no model"),
    "no metrics": (lambda c: c.pop("metrics"), "its reply has no number 'train_loss'"),
    "text": (lambda c: c.update(metrics=ConfigRecord({"train_loss": "low"})), "has no number"),
    "lacking": (lambda c: arrays(c).pop(first(c)), "its model lacks "),
    "more": (lambda c: put(c, "extra", [1.0]), "has extra, which it was not sent"),
    "shape": (lambda c: put(c, first(c), np.zeros(3, np.float32)), r"as float32 \[3\], was sent"),
    "one row": (lambda c: put(c, first(c), np.zeros((1, 1), np.float32)), r"float32 \[1, 1\]"),
    "dtype": (lambda c: put(c, first(c), np.zeros((8, 256), "int64")), r"as int64 \["),
    "empty": (lambda c: put(c, first(c), np.zeros(0, np.float32)), r"as float32 \[0\]"),
    "negative": (lambda c: num(c, -5), "trained on -5 images"),
    "infinite": (lambda c: num(c, float("inf")), "trained on inf images"),
}


def spoil(monkeypatch: pytest.MonkeyPatch, fault: Fault, kind: str = "train") -> None:
    """Let the site of the second message of round 2 send back something else."""

    class Spoiling(InlineGrid):
        num_seen = 0

        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterable[Message]:
            for place, reply in enumerate(super().send_and_receive(messages)):
                if reply.metadata.message_type == kind:
                    self.num_seen += place == 0
                    if self.num_seen == 2 and place == 1:
                        fault(reply.content)
                yield reply

    monkeypatch.setattr("fedsim.execution.InlineGrid", Spoiling)


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_model_is_told_and_can_be_dropped(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fault, said = FAULTS[name]
    spoil(monkeypatch, fault)
    with pytest.raises(RunError, match=f"round 2: site-01 failed to train: .*{said}"):
        run(tiny(), out=tmp_path, name="abort", device="cpu")
    assert [row["round"] for row in read(tmp_path / "abort").rounds] == [1]
    record = run(tiny(on_client_failure="drop"), out=tmp_path, name="drop", device="cpu")
    assert [row["dropped"] for row in record.rounds] == [[], ["site-01"], []]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_stop_the_run_before_they_are_recorded(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    def fault(content: RecordDict) -> None:
        values = arrays(content)[first(content)].numpy().copy()
        values.flat[0] = bad
        put(content, first(content), values)

    spoil(monkeypatch, fault)
    with pytest.raises(DivergedError, match=r"round 2: training diverged at site-01"):
        run(tiny(on_client_failure="drop"), out=tmp_path, name="run", device="cpu")
    last = max((tmp_path / "run" / "checkpoints").iterdir())
    assert last.name == "round-00001.safetensors"
    assert all(bool(tensor.isfinite().all()) for tensor in load(last)["model"].values())


def test_after_a_fault_a_run_goes_on_to_the_bits_of_one_without(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tiny(), out=tmp_path, name="whole", device="cpu")
    with monkeypatch.context() as during:
        spoil(during, FAULTS["shape"][0])
        with pytest.raises(RunError):
            run(tiny(), out=tmp_path, name="run", device="cpu")
    resume(tmp_path / "run")
    for file in ("rounds.jsonl", "metrics.jsonl", "checkpoints/round-00003.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (whole.folder / file).read_bytes()


def test_an_evaluation_that_cannot_be_read_is_told(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda content: content.clear(), "evaluate")
    with pytest.raises(RunError, match="round 1: the evaluation of site-01 cannot be read"):
        run(tiny(), out=tmp_path, device="cpu")
