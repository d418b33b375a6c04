"""Clients that answer with what is no model, or not at all, in this process and in workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from fedsim.engines import worker_process
from fedsim.engines.inline import site_of
from fedsim.flower import client_app

SITE = 1
"""The site that has all the faults."""
Fault = Callable[[RecordDict], Any]
Schedule = Mapping[tuple[str, int], str]
"""By kind of message and round, the name of a fault."""


def arrays(content: RecordDict) -> ArrayRecord:
    return content.array_records["arrays"]


def first(content: RecordDict) -> str:
    return next(iter(arrays(content)))


def put(content: RecordDict, name: str, values: Any) -> None:
    arrays(content)[name] = Array(np.asarray(values))


def num(content: RecordDict, value: float) -> None:
    content["metrics"] = MetricRecord({"num-examples": value, "train_loss": 1.0})


def poison(content: RecordDict, value: float) -> None:
    values = arrays(content)[first(content)].numpy().copy()
    values.flat[0] = value
    put(content, first(content), values)


def fail(content: RecordDict) -> None:
    raise ValueError("no such disk")


NO_MODEL: dict[str, tuple[Fault, str]] = {
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
    "fails": (fail, "ValueError: no such disk"),
}
"""What is done to a reply, and what is said of it."""
FAULTS: dict[str, Fault] = {
    **{name: fault for name, (fault, _) in NO_MODEL.items()},
    "nan": partial(poison, value=float("nan")),
    "inf": partial(poison, value=float("inf")),
    "-inf": partial(poison, value=float("-inf")),
    "silent": lambda _: time.sleep(3600),
}


def spoil(monkeypatch: pytest.MonkeyPatch, schedule: Schedule) -> None:
    """Let a site have faults, whether it trains in this process or in a worker."""
    spoilt = partial(_make, client_app.make_client_app, schedule)
    monkeypatch.setattr("fedsim.execution.make_client_app", spoilt)
    monkeypatch.setattr("fedsim.engines.workers.work", partial(_work, schedule))


def _work(schedule: Schedule, *arguments: Any) -> None:
    """Be a worker process."""
    with pytest.MonkeyPatch.context() as patch:
        spoilt = partial(_make, client_app.make_client_app, schedule)
        patch.setattr(worker_process, "make_client_app", spoilt)
        worker_process.work(*arguments)


def _make(make: Callable[..., Any], schedule: Schedule, *arguments: Any) -> Any:
    app = make(*arguments)

    def answer(message: Message, context: Context) -> Message:
        reply: Message = app(message, context)
        kind = message.metadata.message_type
        round = int(str(message.content.config_records["config"].get("server-round", 0)))
        if site_of(message.metadata.dst_node_id) == SITE and (kind, round) in schedule:
            FAULTS[schedule[kind, round]](reply.content)
        return reply

    return answer
