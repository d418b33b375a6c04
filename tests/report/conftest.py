"""A run record made up for tests: shaped like a real one, with numbers to order."""

from __future__ import annotations

import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedsim.errors import InputError


@pytest.fixture
def make_record() -> Any:
    return record


@pytest.fixture
def make_row() -> Any:
    return row


def row(
    round: int, split: str, site: str, metric: str, value: float | None, n: int = 40
) -> dict[str, Any]:
    return {
        "round": round,
        "split": split,
        "site": site,
        "metric": metric,
        "value": value,
        "num_examples": n,
        "num_valid": 0 if value is None else n,
    }


def record(
    folder: Path = Path(),
    *,
    sites: int = 3,
    rounds: int = 4,
    metrics: tuple[str, ...] = ("auroc", "loss"),
    defined: bool = True,
    decomposition: bool = True,
    seed: int = 7,
) -> Any:
    """Return a run that learns, with unequal sites of which the last has no defined AUROC."""
    rng = random.Random(seed)
    names = [f"site-{i:02}" for i in range(sites)]
    skill = [rng.gauss(0, 0.05) for _ in names]
    sizes = [int(40 * math.exp(rng.gauss(0, 0.8))) + 2 for _ in names]
    shares = [rng.betavariate(1.5, 1.5) for _ in names]

    def value(metric: str, round: int, shift: float) -> float:
        gain = 1 - math.exp(-round / 6)
        level = {"loss": 0.72 - 0.4 * gain - shift, "ece": 0.2 - 0.12 * gain - shift / 4}
        return level.get(metric, min(1.0, 0.5 + 0.36 * gain + shift)) + rng.gauss(0, 0.008)

    scores = []
    for round in range(rounds + 1):
        for split in ("validation", "test"):
            for metric in metrics:
                shift = 0.01 if split == "validation" else -0.01
                pooled = value(metric, round, shift) if defined else None
                scores.append(row(round, split, "pooled", metric, pooled, sum(sizes)))
                for name, own, n in zip(names, skill, sizes, strict=True):
                    lost = not defined or (metric == "auroc" and name == names[-1] and sites > 1)
                    found = None if lost else value(metric, round, shift + own)
                    scores.append(row(round, split, name, metric, found, n))

    def no_predictions(round: int) -> Any:
        raise InputError("not recorded")

    return SimpleNamespace(
        folder=folder,
        predictions=no_predictions,
        scenario={
            "name": "label-skew",
            "seed": seed,
            "rounds": rounds,
            "strategy": {"kind": "principal_gradient"},
            "client": {"objective": {"kind": "margin"}},
            "server_optimizer": None,
            "evaluation": {
                "metrics": list(metrics),
                "select_by": metrics[0],
                "min_per_class": 0,
                "num_resamples": 100,
            },
            "data": {"source": {"kind": "synthetic"}, "task": "binary", "positive_class": 1},
        },
        baselines=[],
        intervals=[],
        population={
            "images": {"num_channels": 1, "image_size": 28, "synthetic": True},
            "external": [],
            "duplicates": {"num_groups": 0},
            "num_mislabelled": {},
            "class_names": ["normal", "pneumonia"],
            "task": "binary",
            "sites": [
                {
                    "name": name,
                    "train": [5 * n - int(5 * n * share), int(5 * n * share)],
                    "validation": [n // 2, n - n // 2],
                    "test": [n // 2, n - n // 2],
                }
                for name, n, share in zip(names, sizes, shares, strict=True)
            ],
        },
        environment={},
        rounds=[
            {"round": r, "loss_decomposition": _terms(r, rng) if decomposition else None}
            for r in range(1, rounds + 1)
        ],
        metrics=scores,
        selection=SimpleNamespace(
            metric=metrics[0],
            best_round=max(1, rounds - rounds // 4),
            final_round=rounds,
            higher_is_better=metrics[0] != "loss",
        ),
    )


def _terms(round: int, rng: random.Random) -> dict[str, float]:
    local = 0.6 * math.exp(-round / 8) + 0.05 + rng.gauss(0, 0.01)
    shift = 0.1 + 0.1 * math.exp(-round / 10) + rng.gauss(0, 0.01)
    aggregation = -0.04 + 0.05 * math.exp(-round / 5) + rng.gauss(0, 0.01)
    return {
        "local_loss": local,
        "distribution_shift_loss": shift,
        "aggregation_loss": aggregation,
        "global_loss": local + shift + aggregation,
        "num_local_examples": 512,
        "num_pooled_examples": 64,
    }
