"""Study folders made up for tests: real run folders with predictions of known quality."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clients.metrics import Task, evaluate
from fedsim.data.source import POOLED
from fedsim.records import RunFolder
from fedsim.records.files import to_line

ROUNDS = 2
Quality = Callable[[str, str, int], float]
"""Method, setting and seed -> how far a model's logits lie towards the truth."""


def add_run(
    folder: Path,
    *,
    seed: int,
    quality: float,
    noise_key: Sequence[int],
    task: Task = "binary",
    num_sites: int = 3,
    per_class: int = 20,
    metrics: Sequence[str] = ("auroc", "loss"),
    baselines: Mapping[str, float] | None = None,
    units: bool = True,
    clock: bool = True,
    tiny_site: bool = False,
    diverged: bool = False,
) -> None:
    """Write the folder of a finished run.

    Its labels and images depend on the seed alone, its errors on `noise_key` too.
    """
    classes = 2 if task == "binary" else 3
    names = [f"site-{number:02}" for number in range(num_sites)]
    counts = {name: [per_class] * classes for name in names}
    if tiny_site:
        counts[names[-1]] = [2] * classes
    shared = np.random.default_rng([7, seed])
    images = {
        (split, name): shared.normal(0, 1.5, (sum(counts[name]), classes))
        for split in ("validation", "test")
        for name in names
    }
    labels = {name: np.repeat(np.arange(classes), counts[name]) for name in names}
    population = {
        "task": task,
        "class_names": [f"class {c}" for c in range(classes)],
        "images": {},
        "sites": [
            {
                "name": n,
                "train": [5 * c for c in counts[n]],
                "validation": counts[n],
                "test": counts[n],
            }
            for n in names
        ],
        "external": [],
        "drawn": None,
        "checksums": {},
    }
    scenario = {
        "name": "made-up",
        "seed": seed,
        "rounds": ROUNDS,
        "data": {"task": task, "positive_class": 1},
        "evaluation": {"metrics": list(metrics), "select_by": metrics[0], "min_per_class": 5},
    }
    run = RunFolder.create(
        folder, scenario=scenario, digest="d", population=population, keep_every=None
    )

    def predict(skill: float, key: Sequence[int]) -> dict[str, Any]:
        own = np.random.default_rng([11, *key])
        found: dict[str, Any] = {"validation": {}, "test": {}}
        for (split, name), hard in images.items():
            logits = hard + own.normal(0, 0.3, hard.shape)
            logits[np.arange(len(logits)), labels[name]] += skill
            scores = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            if diverged:
                scores[:] = np.nan
            found[split][name] = scores.astype(np.float32), labels[name]
        return found

    def rows(found: Mapping[str, Any], round: int | None) -> list[dict[str, Any]]:
        """Return test values of all sites, validation values pooled: no more is looked at."""
        made = []
        for split, by_site in found.items():
            everything = [np.concatenate(part) for part in zip(*by_site.values(), strict=True)]
            alone = by_site if split == "test" else {}
            for site, (scores, truth) in {POOLED: everything, **alone}.items():
                for metric, value in evaluate(scores, truth, metrics, task).items():
                    made.append(
                        {
                            "round": round,
                            "split": split,
                            "site": site,
                            "metric": metric,
                            "value": value.value,
                            "num_examples": len(truth),
                            "num_valid": value.num_valid,
                        }
                    )
        return made

    for round in range(ROUNDS + 1):
        found = predict(quality * round / ROUNDS, noise_key)
        if round:
            virtual = {"begin_s": 10.0 * round - 10, "end_s": 10.0 * round, "tasks": []}
            run.add_round(
                {
                    "round": round,
                    "virtual": virtual if clock else None,
                    "bytes_down": 1000,
                    "bytes_up": 500,
                }
            )
        looked_at = found if round == ROUNDS else {"validation": found["validation"]}
        run.add_metrics(rows(looked_at, round))
    run.save_predictions(ROUNDS, found)
    marks = []
    for kind, skill in (baselines or {}).items():
        scored = rows({"test": predict(skill, [*noise_key, 99])["test"]}, ROUNDS)
        marks += [
            {
                "baseline": kind,
                "model": model,
                "trained_at": POOLED if POOLED in (kind, row["site"]) else row["site"],
                **row,
            }
            for model in ("final", "best")
            for row in scored
        ]
    if units:
        ends = np.cumsum([0, *(sum(counts[name]) for name in names)])
        begin = 10_000 * seed
        run.save_test_units(
            "image",
            {
                name: list(range(begin + int(a), begin + int(b)))
                for name, a, b in zip(names, ends[:-1], ends[1:], strict=True)
            },
        )
    run.conclude(marks, [])
    run.close()


@pytest.fixture
def make_run() -> Callable[..., None]:
    return add_run


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a study folder and its runs."""

    def make(
        quality: Quality,
        *,
        methods: Sequence[str] = ("fedavg", "fedld"),
        settings: Sequence[str] = ("base",),
        seeds: Sequence[int] = tuple(range(6)),
        analysis: Mapping[str, Any] | None = None,
        fail: Sequence[tuple[str, str, int]] = (),
        absent: Sequence[tuple[str, str, int]] = (),
        trials: Mapping[str, Sequence[float]] | None = None,
        **run: Any,
    ) -> Path:
        folder = tmp_path / "study"
        folder.mkdir()
        lines = []

        def cell(
            method: str, setting: str, seed: int, purpose: str, trial: int | None, **more: Any
        ):
            name = f"{purpose}/{method}/{setting}/{trial}/seed {seed}"
            own = tmp_path / "cells" / name.replace("/", "-")
            number = [methods.index(method), settings.index(setting), seed, trial or 0]
            failed = (method, setting, seed) in fail and purpose == "final"
            if not failed:
                add_run(
                    own,
                    seed=seed,
                    quality=more.pop("quality"),
                    noise_key=number,
                    **run,
                )
            lines.append(
                {
                    "cell": name,
                    "method": method,
                    "setting": setting,
                    "seed": seed,
                    "purpose": purpose,
                    "trial": trial,
                    "values": more.get("values", {}),
                    "run": f"../cells/{own.name}",
                    "status": "failed" if failed else "done",
                    "seconds": 1.0,
                    "error": "it broke" if failed else None,
                }
            )

        own_values: dict[str, Any] = {}
        for method, skills in (trials or {}).items():
            best = max(range(len(skills)), key=lambda t: skills[t])
            own_values[method] = {"values": {"knob": best}}
            for setting in settings:
                for number, skill in enumerate(skills):
                    cell(
                        method,
                        setting,
                        1000,
                        "trial",
                        number,
                        quality=skill,
                        values={"knob": number},
                    )
        for method in methods:
            for setting in settings:
                for seed in seeds:
                    if (method, setting, seed) not in absent:
                        skill = quality(method, setting, seed)
                        own = own_values.get(method, {})
                        cell(method, setting, seed, "final", None, quality=skill, **own)
        head = {
            "format": 1,
            "digest": "d",
            "analysis": {
                "metric": "auroc",
                "split": "test",
                "pooled": True,
                "reference": methods[0],
                "smallest_difference_of_interest": 0.02,
                "target": None,
                "confidence": 0.95,
                **(analysis or {}),
            },
            "methods": list(methods),
            "settings": {name: {} for name in settings},
            "seeds": list(seeds),
        }
        (folder / "study.json").write_text(json.dumps(head))
        (folder / "study.yaml").write_text(yaml.safe_dump({"question": "Which one?"}))
        (folder / "cells.jsonl").write_text("".join(map(to_line, lines)))
        return folder

    return make
