"""A whole comparison, of studies whose answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.comparison import compare, foresee, tables
from fedsim.records.study import read_study

BASELINES = {"pooled": 2.5, "local": 1.0}


def better(method: str, setting: str, seed: int) -> float:
    """Return a study in which fedld is clearly better than fedavg."""
    return {"fedavg": 1.0, "fedld": 2.0}.get(method, 1.0)


def found(folder: Path) -> dict[str, Any]:
    comparison = compare(read_study(folder))
    assert json.loads(json.dumps(comparison, allow_nan=False)) == comparison
    assert tables(comparison)
    return comparison


def test_a_clear_difference_is_shown(make_study: Callable[..., Path]) -> None:
    comparison = found(make_study(better, baselines=BASELINES, analysis={"target": 0.75}))
    print(
        json.dumps(
            {
                k: v
                for k, v in comparison.items()
                if k not in ("values", "calibration", "decision_curves")
            },
            indent=1,
        )
    )
    for name, text in tables(comparison).items():
        print("==", name)
        print(text)
    assert 0
