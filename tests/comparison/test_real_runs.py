"""A comparison of runs that have been run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedsim.comparison import compare, tables
from fedsim.privacy.balance import balance
from fedsim.privacy.ledger import entries
from fedsim.records import read
from fedsim.records.files import to_line
from fedsim.records.study import read_study
from fedsim.scenario import Scenario
from fedsim.simulate import run

METHODS = {"fedavg": "weighted_mean", "fedld": "principal_gradient"}
PRIVACY = {"mechanism": {"kind": "example_level", "noise_multiplier": 2.0}, "delta": 1e-4}


@pytest.mark.slow
def test_real_runs_are_compared(tiny: Callable[..., Scenario], tmp_path: Path) -> None:
    source = {
        "kind": "synthetic",
        "anatomy": "chest",
        "image_size": 16,
        "num_examples": 240,
        "images_per_patient": 2,
    }
    lines, shared = [], []
    for method, strategy in METHODS.items():
        for seed in (0, 1):
            scenario = tiny(
                seed=seed,
                strategy={"kind": strategy},
                privacy=PRIVACY if method == "fedavg" else None,
                baselines=["pooled", "local"],
                data={"source": source, "task": "binary"},
                evaluation={"min_per_class": 1, "metrics": ["auroc", "loss"]},
            )
            record = run(scenario, out=tmp_path / "cells", name=f"{method}-{seed}")
            unit, units = record.test_units()
            assert unit == "patient"
            predictions = record.predictions(record.selection.final_round)["test"]
            assert {s: len(u) for s, u in units.items()} == {
                s: len(labels) for s, (_, labels) in predictions.items()
            }
            attributes = record.test_attributes()
            assert set(attributes) == {"sex", "age_band"}
            for by_site in attributes.values():
                assert {s: len(values) for s, values in by_site.items()} == {
                    s: len(u) for s, u in units.items()
                }
            shared.append(np.unique(np.concatenate(list(units.values()))))
            lines.append(
                {
                    "cell": f"final/{method}/base/seed {seed}",
                    "method": method,
                    "setting": "base",
                    "seed": seed,
                    "purpose": "final",
                    "trial": None,
                    "values": {},
                    "run": f"../cells/{method}-{seed}",
                    "status": "done",
                    "seconds": 1.0,
                    "error": None,
                }
            )
    first, again = shared[0], shared[1]
    assert 0 < len(np.intersect1d(first, again)) < len(first)  # seeds share some test images
    folder = tmp_path / "study"
    folder.mkdir()
    head = {
        "format": 1,
        "digest": "d",
        "analysis": {"metric": "auroc", "split": "test", "pooled": True, "reference": "fedavg"},
        "methods": list(METHODS),
        "settings": {"base": {}},
        "seeds": [0, 1],
    }
    (folder / "study.json").write_text(json.dumps(head))
    (folder / "study.yaml").write_text("question: Which one?")
    (folder / "cells.jsonl").write_text("".join(map(to_line, lines)))
    comparison = compare(read_study(folder))
    assert comparison["failures"] == []
    assert len(comparison["values"]) == 8
    for row in comparison["primary_intervals"]:
        assert row["low"] < row["mean"] < row["high"]
        assert row["unit"] == "patient"
    assert {row["yardstick"] for row in comparison["yardsticks"]} == {"pooled", "local"}
    assert {(row["yardstick"], row["paid_as"]) for row in comparison["yardsticks"]} == {
        ("pooled", None),
        ("local", "fedavg"),
        ("local", None),
    }
    (spent,) = comparison["epsilon_summary"]
    ledgers = [read(tmp_path / "cells" / f"fedavg-{seed}").ledger for seed in (0, 1)]
    whole = max(balance(entries(rows), 1e-4).federation[0].bounds.high for rows in ledgers)
    assert (spent["method"], spent["unit"]) == ("fedavg", "example")
    assert spent["highest"] == pytest.approx(whole, abs=0.01)
    groups = {(row["attribute"], row["group"]) for row in comparison["subgroups"]}
    assert groups >= {("sex", "f"), ("sex", "m"), ("sex", None), ("age_band", "under 50")}
    assert comparison["join"]
    assert tables(comparison)
