from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsim.records.study import StudyRecord
from fedsim.study.design import Design
from fedsim.study.load import load_study

Make = Callable[..., Design]

STUDY: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "question": "Does the principal gradient beat the mean?",
    "base": "base.yaml",
    "primary": {
        "metric": "auroc",
        "reference": "mean",
        "smallest_difference_of_interest": 0.05,
    },
    "methods": {
        "mean": {
            "tune": {"client.optimizer.learning_rate": {"low": 0.01, "high": 1.0, "scale": "log"}}
        },
        "principal": {
            "set": {"strategy": {"kind": "principal_gradient"}},
            "tune": {"strategy.keep": [0.5, 0.75, 1.0]},
        },
    },
    "vary": {"population.partition.alpha": [0.5, 5.0]},
    "tune": {"trials": 2, "seeds": [1000]},
    "seeds": 2,
}


@pytest.fixture(scope="session")
def base(tiny: Any) -> dict[str, Any]:
    """A scenario whose run takes a fraction of a second."""
    evaluation = {"metrics": ["auroc", "loss"], "loss_decomposition": False}
    resolved: dict[str, Any] = tiny(rounds=2, evaluation=evaluation).resolved()
    return resolved


@pytest.fixture
def make(tmp_path: Path, base: dict[str, Any]) -> Make:
    """Return a function that makes a small study with keys replaced."""

    def design(folder: Path = tmp_path, **keys: Any) -> Design:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "base.yaml").write_text(yaml.safe_dump(base))
        content = {**copy.deepcopy(STUDY), **keys}
        (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return load_study(folder / "study.yaml")

    return design


REPEATABLE = ("rounds.jsonl", "metrics.jsonl", "baselines.jsonl", "intervals.jsonl")


def what_is_compared(record: StudyRecord) -> dict[str, Any]:
    """Return all of a study that a comparison reads, byte for byte."""
    found: dict[str, Any] = {"study.json": (record.folder / "study.json").read_bytes()}
    for cell in record.cells:
        files = [cell.folder / name for name in REPEATABLE]
        files += sorted(cell.folder.glob("predictions/*")) if cell.folder.exists() else []
        found[cell.cell] = (
            cell.status,
            cell.error,
            json.dumps(cell.values),
            cell.folder.name,
            {file.name: file.read_bytes() for file in files if file.exists()},
        )
    return found
