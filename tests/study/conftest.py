from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

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


@pytest.fixture(scope="session")
def make_in(base: dict[str, Any]) -> Make:
    """Return a function that makes a small study in a folder, with keys replaced."""

    def design(folder: Path, **keys: Any) -> Design:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "base.yaml").write_text(yaml.safe_dump(base))
        content = {**copy.deepcopy(STUDY), **keys}
        (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return load_study(folder / "study.yaml")

    return design


@pytest.fixture
def make(tmp_path: Path, make_in: Make) -> Make:
    """Return a function that makes a small study, with keys replaced."""
    return lambda folder=tmp_path, **keys: make_in(folder, **keys)
