"""A run in MLflow: the scenario as parameters, the numbers as metrics."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fedsim.errors import InputError
from fedsim.tracking.scalars import Scalar
from fedsim.tracking.tracker import Tracker

if TYPE_CHECKING:
    from fedsim.records import RunRecord

Item = TypeVar("Item")
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100
LONGEST_VALUE = 500
"""Limits of MLflow's interface."""
_STRANGE = re.compile(r"[^\w\-. :/]")
"""What a name may not have."""


class MLflow(Tracker):
    """A new run in the experiment that is called as the scenario.

    Args:
        record: of the run.
        uri: of the tracking server or store; MLflow's own default (MLFLOW_TRACKING_URI) if empty.

    Raises:
        InputError: if mlflow is not installed, or the store cannot be used.
    """

    def __init__(self, record: RunRecord, uri: str = "") -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            raise InputError(
                "mlflow is not installed: pip install 'fedsim-medical[mlflow]'"
            ) from error
        self._metric = Metric
        try:
            self._client = MlflowClient(uri or None)
            name = str(record.scenario["name"])
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name)
            tags = {"fedsim.digest": record.run["digest"], "fedsim.folder": str(record.folder)}
            run = self._client.create_run(experiment, tags=tags, run_name=record.folder.name)
            self._run = run.info.run_id
            for some in _parts(list(_flat(record.scenario)), PARAMS_AT_ONCE):
                params = [Param(key, value[:LONGEST_VALUE]) for key, value in some]
                self._client.log_batch(self._run, params=params)
        except MlflowException as error:
            raise InputError(f"MLflow cannot keep the run: {error}") from error

    @property
    def place(self) -> str:
        """Store and run."""
        return f"{self._client.tracking_uri} run {self._run}"

    def log(self, values: Iterable[Scalar]) -> None:
        """See `Tracker.log`."""
        now = time.time_ns() // 1_000_000
        for some in _parts(list(values), METRICS_AT_ONCE):
            metrics = [
                self._metric(_STRANGE.sub("_", name), value, now, round)
                for round, name, value in some
            ]
            self._client.log_batch(self._run, metrics=metrics)

    def close(self, finished: bool) -> None:
        """See `Tracker.close`; a run that goes on stays "RUNNING"."""
        if finished:
            self._client.set_terminated(self._run, "FINISHED")


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _flat(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key path of a scenario with its value as text.

    >>> list(_flat({"seed": 0, "client": {"epochs": 2}}))
    [('seed', '0'), ('client.epochs', '2')]
    """
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield _STRANGE.sub("_", f"{path}{key}"), str(value)
