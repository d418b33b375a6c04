"""Attacks break a mean, and rules that are made for it bear them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim.scenario import Scenario
from fedsim.simulate import run

ATTACKS = {
    "sign_flip": {"kind": "sign_flip", "scale": 5.0, "share": 0.2},
    "inner_product": {"kind": "inner_product", "epsilon": 6.0, "share": 0.2},
}
MEDIAN = {"kind": "coordinate_median"}
KRUM = {"kind": "krum", "num_byzantine": 2}


@pytest.mark.slow
def test_a_mean_fails_where_krum_and_median_keep_accuracy(
    tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    def accuracy(name: str, strategy: Any, *adversaries: Any) -> float:
        scenario = tiny(
            rounds=8,
            data={
                "source": {
                    "kind": "synthetic",
                    "anatomy": "chest",
                    "image_size": 16,
                    "num_examples": 600,
                    "signal": 1.0,
                },
                "task": "binary",
                "normalisation": {"kind": "standard", "mean": [0.5], "std": [0.25]},
            },
            population={
                "num_sites": 10,
                "partition": {"kind": "iid"},
                "adversaries": list(adversaries),
            },
            model={"kind": "mlp", "widths": [32]},
            client={
                "epochs": 2,
                "batch_size": 16,
                "optimizer": {"kind": "adam", "learning_rate": 0.003},
            },
            strategy=strategy,
            evaluation={
                "metrics": ["balanced_accuracy"],
                "select_by": "balanced_accuracy",
                "every": 8,
                "loss_decomposition": False,
            },
        )
        record = run(scenario, out=tmp_path, name=name, device="cpu")
        assert all(len(row["attackers"]) == 2 * len(adversaries) for row in record.rounds)
        (value,) = (
            row["value"]
            for row in record.metrics
            if (row["round"], row["split"], row["site"]) == (8, "test", "pooled")
        )
        return float(value)

    mean = {"kind": "weighted_mean"}
    honest = accuracy("honest", mean)
    assert honest > 0.8
    for kind, attack in ATTACKS.items():
        assert accuracy(f"mean-{kind}", mean, attack) < 0.55
        assert accuracy(f"median-{kind}", MEDIAN, attack) > honest - 0.1
        assert accuracy(f"krum-{kind}", KRUM, attack) > honest - 0.2  # the model of one site
