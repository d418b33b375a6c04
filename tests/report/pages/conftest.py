"""A study folder made up for tests: shaped like a real one, with numbers to order."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

METHODS = ("fedavg", "fedld", "fedprox", "krum")
SETTINGS = ("alpha=0.1", "alpha=1.0")
SITES = ("site-00", "site-01", "site-02")
METRICS = ("auroc", "loss")
VERDICTS = {"fedld": "better", "fedprox": "equivalent", "krum": "worse"}
GAINS = {"fedavg": 0.0, "fedld": 0.04, "fedprox": 0.002, "krum": -0.06}


@pytest.fixture
def save() -> Any:
    """Return the function that writes a made-up run as a run folder."""
    return save_run


@pytest.fixture(scope="session")
def make_study(make_record: Any) -> Any:
    """Return a function that writes a study folder: see `save_study` for what it takes."""

    def make(folder: Path, **more: Any) -> Path:
        return save_study(folder, make_record, **more)

    return make


def save_run(made: Any, folder: Path) -> None:
    """Write a made-up run record as a run folder."""
    folder.mkdir(parents=True)
    for name, content in (("run", made.run), ("population", made.population)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "scenario.yaml").write_text(yaml.safe_dump(made.scenario, sort_keys=False))
    rows = {
        "environment": [made.environment],
        "rounds": made.rounds,
        "metrics": made.metrics,
        "baselines": made.baselines,
        "intervals": made.intervals,
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def save_study(
    folder: Path,
    make_record: Any,
    *,
    methods: tuple[str, ...] = METHODS,
    settings: tuple[str, ...] = SETTINGS,
    seeds: int = 3,
    compared: bool = True,
    virtual: bool = False,
    question: str = "Does principal-gradient aggregation beat a tuned weighted mean?",
    **more: Any,
) -> Path:
    """Write a study folder with one run of each method, setting and seed; return it."""
    cells = []
    for method in methods:
        for number, setting in enumerate(settings):
            for seed in range(seeds):
                run = folder.parent / "cells" / f"{method}-{number}-{seed}".replace("/", "")
                made = make_record(rounds=8, seed=seed + 10 * number, virtual=virtual)
                for row in made.metrics:
                    if row["value"] is not None and row["metric"] == "auroc":
                        row["value"] += GAINS.get(method, 0.01) * row["round"] / 8
                save_run(made, run)
                cells.append(_cell(method, setting, seed, f"../cells/{run.name}"))
    cells.append({**_cell(methods[-1], settings[0], seeds, "../cells/none"), **FAILED})
    folder.mkdir(parents=True)
    primary = {
        "metric": "auroc",
        "split": "test",
        "pooled": True,
        "model": "final",
        "reference": methods[0],
        "smallest_difference_of_interest": 0.02,
    }
    head = {
        "format": 1,
        "digest": "feed" * 16,
        "analysis": primary,
        "methods": methods,
        "settings": {name: {} for name in settings},
        "seeds": list(range(seeds + 1)),
    }
    study = {
        "version": 1,
        "name": "compare",
        "question": question,
        "base": {"name": "label-skew"},
        "primary": primary,
        "methods": {
            name: {
                "description": "",
                "set": {"strategy": {"kind": "weighted_mean"}},
                "tune": {"client.optimizer.learning_rate": {"low": 1e-4, "high": 1e-2}},
            }
            for name in methods
        },
        "seeds": list(range(seeds + 1)),
    }
    (folder / "study.json").write_text(json.dumps(head))
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    (folder / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    if compared:
        content = comparison(methods, settings, seeds, primary, question, **more)
        (folder / "comparison.json").write_text(json.dumps(content))
    return folder


FAILED = {"status": "failed", "error": "RunError: the loss is not finite in round 3"}


def _cell(method: str, setting: str, seed: int, run: str) -> dict[str, Any]:
    return {
        "cell": f"final/{method}/{setting}/seed {seed}",
        "method": method,
        "setting": setting,
        "seed": seed,
        "purpose": "final",
        "trial": None,
        "values": {},
        "run": run,
        "status": "done",
        "seconds": 1.5,
        "error": None,
    }


def comparison(
    methods: tuple[str, ...],
    settings: tuple[str, ...],
    seeds: int,
    primary: dict[str, Any],
    question: str,
    *,
    critical_difference: float | None = None,
    target: float | None = 0.8,
    sites: tuple[str, ...] = SITES,
) -> dict[str, Any]:
    """Return what `fedsim.comparison` would say."""
    rng = random.Random(5)
    reference, pairs = primary["reference"], [(s, m) for s in settings for m in methods]
    others = [(s, m) for s, m in pairs if m != reference]

    def around(mean: float, width: float = 0.015) -> dict[str, float]:
        return {"mean": mean, "sd": width, "low": mean - width, "high": mean + width}

    def gain(method: str) -> float:
        return GAINS.get(method, 0.01) + rng.gauss(0, 0.004)

    thresholds = [round(0.05 * step, 2) for step in range(1, 17)]
    return {
        "format": 1,
        "question": question,
        "primary": {**primary, "higher_is_better": True, "target": target, "confidence": 0.95},
        "methods": methods,
        "settings": settings,
        "seeds": list(range(seeds + 1)),
        "metrics": METRICS,
        "values": [],
        "summary": [
            {
                "setting": s,
                "method": m,
                "metric": metric,
                "num_seeds": seeds,
                **around((0.85 if metric == "auroc" else 0.4) + gain(m)),
            }
            for s, m in pairs
            for metric in METRICS
        ],
        "primary_intervals": [
            {
                "setting": s,
                "method": m,
                "mean": 0.8,
                "low": 0.7125,
                "high": 0.9125,
                "difference_low": None if m == methods[0] else -0.0625,
                "difference_high": None if m == methods[0] else 0.0875,
                "num_seeds": seeds,
                "num_resamples": 500,
                "unit": "patient",
            }
            for s in settings
            for m in methods
        ],
        "differences": [
            {
                "setting": s,
                "method": m,
                "metric": metric,
                "num_pairs": seeds,
                **around(gain(m), 0.012),
                "p": 0.01,
                "p_adjusted": 0.0004 if VERDICTS.get(m) != "equivalent" else 0.61,
                "wins": seeds - 1,
                "ties": 0,
                "losses": 1,
                "verdict": VERDICTS.get(m, "not shown"),
                "sentence": f"{m} is {VERDICTS.get(m, 'not shown')} with {s}: {metric}.",
            }
            for s, m in others
            for metric in METRICS
        ],
        "ranks": [{"method": m, "mean_rank": 1.2 + 0.7 * n} for n, m in enumerate(methods)],
        "critical_difference": critical_difference,
        "rank_note": "Friedman's test over settings and seeds.",
        "time_to_target": [],
        "time_summary": [
            {
                "setting": s,
                "method": m,
                "num_reached": seeds - 1,
                "num_seeds": seeds,
                "median_rounds": 6.5,
                "median_virtual_s": None,
                "median_bytes": 3.2e6,
            }
            for s, m in pairs
        ]
        if target
        else [],
        "traffic": [
            {"setting": s, "method": m, "bytes_down": 6e6, "bytes_up": 5.5e6} for s, m in pairs
        ],
        "worst_site": [],
        "worst_site_summary": [
            {"setting": s, "method": m, "num_seeds": seeds, **around(0.74 + gain(m))}
            for s, m in pairs
        ],
        "yardsticks": [
            {"setting": s, "yardstick": y, "metric": "auroc", "num_seeds": seeds, **around(0.9)}
            for s in settings
            for y in ("pooled", "local")
        ],
        "join": [
            {
                "setting": s,
                "method": m,
                "site": site,
                "num_train": 120,
                "num_seeds": seeds,
                "gain_over_alone": g,
                "low": g - 0.03,
                "high": g + 0.03,
                "gain_over_pooled": g - 0.05,
                "probability_of_harm": 0.25,
                "harm_low": 0.1,
                "harm_high": 0.5,
            }
            for s, m in pairs
            for site in (*sites, "pooled")
            for g in [0.03 + gain(m) + rng.gauss(0, 0.02)]
        ],
        "calibration": [
            {
                "setting": s,
                "method": m,
                "num_seeds": seeds,
                "ece": 0.08,
                **{"low": 0.05, "high": 0.11, "of": "positive class"},
                "bins": [
                    {"said": said, "seen": said**1.3 + gain(m), "count": 30}
                    for said in (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
                ],
            }
            for s, m in pairs
        ],
        "decision_curves": [
            {
                "setting": s,
                "method": m,
                "num_seeds": seeds,
                "thresholds": thresholds,
                "net_benefit": [0.5 + gain(m) - 0.4 * t for t in thresholds],
                "low": [0.4 - 0.4 * t for t in thresholds],
                "high": [0.6 - 0.4 * t for t in thresholds],
                "treat_all": [0.5 - 0.5 * t / (1 - t) for t in thresholds],
            }
            for s, m in pairs
        ],
        "tuned": [
            {
                "setting": s,
                "method": m,
                "values": {"client.optimizer.learning_rate": 0.00213},
                "validation_value": 0.87,
                "num_trials": 8,
                "num_failed": 0,
            }
            for s, m in pairs
        ],
        "failures": [],
        "power": {
            "num_seeds": seeds,
            "num_comparisons": len(others),
            "alpha": 0.05,
            "power": 0.8,
            "smallest_difference_of_interest": 0.02,
            "exact_test_seeds": 8,
            "rows": [
                {
                    "setting": s,
                    "method": m,
                    "num_pairs": seeds,
                    "sd": 0.012,
                    "detectable": 0.018,
                    "seeds_needed": 9,
                    "cautious_seeds_needed": 14,
                }
                for s, m in others
            ],
        },
        "sentences": [
            *(f"{m} is {VERDICTS.get(m, 'not shown')} with {s}: auroc." for s, m in others),
            f"With {seeds} seeds, differences from 0.018 on are shown with 80 % power.",
        ],
    }
