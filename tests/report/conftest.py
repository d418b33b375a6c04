"""A run record made up for tests: shaped like a real one, with numbers to order."""

from __future__ import annotations

import json
import math
import random
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from fedsim.errors import InputError
from fedsim.records.audit import write_audit
from fedsim.scenario import from_data

ENVIRONMENT = {
    "python": "3.11.7",
    "packages": {"fedsim-medical": "0.1.0", "torch": "2.13.0", "monai": None},
    "plugins": {},
    "platform": "Linux",
    "processor": "a processor",
    "num_cpus": 2,
    "device": "cpu",
    "device_type": "cpu",
    "device_names": [],
    "num_threads": 1,
    "cpu_capability": "AVX2",
}
FRONT = ("split", "site", "metric")


@pytest.fixture(scope="session")
def make_record() -> Any:
    return record


@pytest.fixture(scope="session")
def make_whole_record() -> Any:
    return whole_record


@pytest.fixture(scope="session")
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
    classes: int = 2,
    seed: int = 7,
    virtual: bool = False,
) -> Any:
    """Return a run that learns, with unequal sites of which the last has no defined AUROC."""
    rng = random.Random(seed)
    names = [f"site-{i:02}" for i in range(sites)]
    skill = [rng.gauss(0, 0.05) for _ in names]
    sizes = [int(40 * math.exp(rng.gauss(0, 0.8))) + 2 for _ in names]
    shares = [rng.betavariate(1.5, 1.5) for _ in names]

    def value(metric: str, round: int, shift: float) -> float:
        gain = 1 - math.exp(-round / 6)
        level = {"loss": 0.72 - 0.4 * gain - shift, "ece": 0.2 - 0.08 * gain - shift / 4}
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
            **_resolved(),
            "name": "label-skew",
            "description": "Sites with unequal shares of the disease",
            "seed": seed,
            "rounds": rounds,
            "strategy": {"kind": "principal_gradient"},
            "client": {**_resolved()["client"], "objective": {"kind": "margin"}},
            "server_optimizer": None,
            "evaluation": {
                "metrics": list(metrics),
                "select_by": metrics[0],
                "min_per_class": 0,
                "num_resamples": 100,
                "every": 1,
                "loss_decomposition": decomposition,
                "external": [],
            },
            "data": {
                **_resolved()["data"],
                "task": "binary" if classes == 2 else "multiclass",
            },
            "baselines": [],
        },
        run={"format": 4, "digest": "0123456789abcdef" * 4, "keep_every": None, "chosen": {}},
        baselines=[],
        intervals=[],
        population={
            "devices": dict.fromkeys(names, "t4") if virtual else {},
            "images": {"num_channels": 1, "image_size": 28, "synthetic": True},
            "external": [],
            "drawn": None,
            "duplicates": {"num_groups": 0, "across_sites": 0},
            "licence": "generated",
            "citation": "",
            "checksums": {"pixels": "sha256:made-up"},
            "num_mislabelled": {},
            "knowledge": {},
            "adversaries": [],
            "class_names": ["normal", "pneumonia", *(f"finding {i}" for i in range(2, classes))],
            "task": "binary" if classes == 2 else "multiclass",
            "sites": [
                {
                    "name": name,
                    "train": _divided(5 * n, share, classes),
                    "validation": _divided(n, 0.5, classes),
                    "test": _divided(n, 0.5, classes),
                }
                for name, n, share in zip(names, sizes, shares, strict=True)
            ],
        },
        environment=ENVIRONMENT,
        rounds=[
            {
                "round": r,
                "loss_decomposition": _terms(r, rng) if decomposition else None,
                "virtual": _turn(r, names) if virtual else None,
                "bytes_down": 1000 * sites,
                "bytes_up": 1000 * sites,
            }
            for r in range(1, rounds + 1)
        ],
        metrics=scores,
        ledger=[],
        selection=SimpleNamespace(
            metric=metrics[0],
            best_round=max(1, rounds - rounds // 4),
            final_round=rounds,
            higher_is_better=metrics[0] != "loss",
        ),
    )


def _resolved() -> dict[str, Any]:
    """Return a small scenario with every default; whoever asks may change it."""
    return deepcopy(_read())


@cache
def _read() -> dict[str, Any]:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120}
    return from_data(
        {
            "version": 1,
            "name": "label-skew",
            "rounds": 4,
            "data": {"source": source, "task": "binary"},
            "population": {"num_sites": 3},
            "client": {"epochs": 1, "batch_size": 16},
        },
        "made up",
    ).resolved()


def _turn(round: int, names: list[str]) -> dict[str, Any]:
    """Return a round of 100 s: site n loads for 5 s, computes for 10 n s and sends for 5 s.

    The last site is late.
    """
    begin = 100.0 * (round - 1)
    return {
        "begin_s": begin,
        "end_s": begin + 100,
        "tasks": [
            {
                "site": name,
                "counted": name != names[-1],
                "staleness": 0,
                "start_s": begin,
                "downloaded_s": begin + 5,
                "computed_s": begin + 5 + 10 * number,
                "uploaded_s": begin + 10 + 10 * number,
            }
            for number, name in enumerate(names, start=1)
        ],
    }


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


def _divided(number: int, share: float, classes: int) -> list[int]:
    """Return examples per class: `share` of them not of the first class, in equal parts."""
    others = [int(number * share) // (classes - 1)] * (classes - 1)
    return [number - sum(others), *others]


def whole_record(
    folder: Path = Path(), *, external: tuple[str, ...] = ("abroad", "overseas"), **more: Any
) -> Any:
    """Return a finished run with all that a run may have: see `record` for `more`."""
    made = record(folder, **more)
    rng = random.Random(made.scenario["seed"])
    made.scenario["evaluation"]["min_per_class"] = 5
    made.population["external"] = [{"name": name, "test": [60, 60]} for name in external]
    for round in range(made.scenario["rounds"] + 1):
        for metric in made.scenario["evaluation"]["metrics"]:
            value = next(
                row["value"]
                for row in made.metrics
                if (row["round"], row["site"], row["metric"]) == (round, "pooled", metric)
            )
            for name in (*external, "pooled") if external else ():
                found = None if value is None else 0.95 * value + rng.gauss(0, 0.01)
                made.metrics.append(row(round, "external", name, metric, found, 120))
    made.baselines = _baselines(made, rng)
    made.intervals = _intervals(made, rng)
    predicted = _predicted(made)
    made.predictions = lambda round: predicted
    return made


def _baselines(made: Any, rng: random.Random) -> list[dict[str, Any]]:
    """Return pooled training a little better than the federation, each site alone worse."""
    final = [row for row in made.metrics if row["round"] == made.selection.final_round]
    names = [site["name"] for site in made.population["sites"]]

    def moved(row: dict[str, Any], by: float) -> dict[str, Any]:
        value = row["value"]
        return {**row, "value": None if value is None else value + rng.gauss(by, 0.02)}

    def of(kind: str, model: str, trained_at: str, row: dict[str, Any]) -> dict[str, Any]:
        return {"baseline": kind, "model": model, "trained_at": trained_at, **row}

    rows = []
    for model in ("final", "best"):
        rows += [of("pooled", model, "pooled", moved(row, 0.03)) for row in final]
        rows += [
            {**of("local", model, row["site"], moved(row, -0.08)), "round": None}
            for row in final
            if row["split"] != "external"
        ]
    for name in names:
        rows += [
            of("local", "final", name, moved(row, -0.15))
            for row in final
            if row["split"] != "validation" and row["site"] not in ("pooled", name)
        ]
    return rows


def _intervals(made: Any, rng: random.Random) -> list[dict[str, Any]]:
    """Return an interval around every pooled value, and around those of sites that have one."""
    own = made.selection.metric
    values = [
        ("federated", model, row)
        for model in ("final", "best")
        for row in made.metrics
        if row["round"] == getattr(made.selection, f"{model}_round")
    ]
    values += [
        (row["baseline"], row["model"], row)
        for row in made.baselines
        if row["trained_at"] in (row["site"], "pooled")
    ]
    return [
        {
            **{"method": method, "model": model},
            **{key: row[key] for key in FRONT},
            "low": None if row["value"] is None else row["value"] - rng.uniform(0.02, 0.08),
            "high": None if row["value"] is None else row["value"] + rng.uniform(0.02, 0.08),
            **{"confidence": 0.95, "num_resamples": 100, "unit": "image"},
        }
        for method, model, row in values
        if row["split"] != "validation"
        and (row["site"] == "pooled" or (row["metric"], model) == (own, "final"))
    ]


def _predicted(made: Any) -> dict[str, dict[str, Any]]:
    """Return log-probabilities of a model that is somewhat too sure, and labels."""
    rng = np.random.default_rng(made.scenario["seed"])
    classes = len(made.population["class_names"])

    def of(counts: list[int]) -> Any:
        labels = np.repeat(np.arange(classes), counts)
        logits = rng.normal(0, 1.4, (len(labels), classes))
        logits[np.arange(len(labels)), labels] += 1.5
        scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return scores.astype(np.float32), labels

    return {
        split: {site["name"]: of(site[split]) for site in made.population["sites"]}
        for split in ("validation", "test")
    }


# Names that try to be markup, commands or formulas, and a record whose names they become.

HOSTILE_SITES = (
    "<script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "a | b ` c * d [x](javascript:document.title='taken') <a href=javascript:0>",
    "=cmd|' /C calc'!A0",
)
HOSTILE_CLASSES = (
    "</script><svg onload=\"document.title='taken'\">",
    "-->]]></style><script>document.title='taken'</script>",
)
HOSTILE_DESCRIPTION = (
    "</p><iframe src=javascript:document.title='taken'></iframe>\n\n```\n<script>alert(1)</script>"
)


def renamed(value: Any, names: dict[str, str]) -> Any:
    """Return plain data with some texts replaced, keys too."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def spoil(record: Any) -> Any:
    """Give a made-up record of four sites and two classes such names."""
    old = [site["name"] for site in record.population["sites"]]
    names = dict(
        zip(
            [*old, *record.population["class_names"]],
            [*HOSTILE_SITES, *HOSTILE_CLASSES],
            strict=True,
        )
    )
    for part in ("population", "metrics", "rounds", "baselines", "intervals"):
        setattr(record, part, renamed(getattr(record, part), names))
    predicted = renamed(record.predictions(0), names)
    record.predictions = lambda round: {
        split: {site: tuple(found) for site, found in by_site.items()}
        for split, by_site in predicted.items()
    }
    record.scenario["description"] = HOSTILE_DESCRIPTION
    record.population["citation"] = f"@misc{{x,\n  title = {{{HOSTILE_DESCRIPTION}}},\n}}"
    record.population["licence"] = record.environment["platform"] = HOSTILE_SITES[1]
    record.population["checksums"] = {HOSTILE_SITES[0]: HOSTILE_SITES[1]}
    record.population["num_mislabelled"] = {HOSTILE_SITES[0]: 3}
    record.scenario["name"] = HOSTILE_SITES[2]
    record.scenario["data"]["source"] |= {"path": HOSTILE_SITES[0], "group": HOSTILE_SITES[1]}
    record.scenario["population"]["partition"] |= {"column": HOSTILE_SITES[2]}
    return record


def spoil_study(folder: Path) -> None:
    """Give all that a made-up study and its runs name such names."""
    said = ["fedavg", "fedld", "krum", "alpha=0.1", "alpha=1.0", "site-00", "site-01", "site-02"]
    said += ["normal", "pneumonia", "compare", "label-skew", "generated", "Linux"]
    tricks = [*HOSTILE_SITES[:3], *HOSTILE_CLASSES, HOSTILE_DESCRIPTION]
    names = {name: f"{tricks[n % len(tricks)]} {n}" for n, name in enumerate(said)}
    names["RunError: the loss is not finite in round 3"] = f"DataError: {''.join(tricks)}"
    for file in (*folder.parent.rglob("*.json"), *folder.parent.rglob("*.jsonl")):
        lines = map(json.loads, file.read_text().splitlines())
        file.write_text("".join(json.dumps(renamed(line, names)) + "\n" for line in lines))
    for file in folder.parent.rglob("*.yaml"):
        content = renamed(yaml.safe_load(file.read_text()), names)
        for method in content.get("methods", {}).values():
            method["description"] = HOSTILE_DESCRIPTION
        file.write_text(yaml.safe_dump(content))


def spoil_audit(folder: Path) -> None:
    """Put an audit into a folder that says such things."""
    one, other, _, formula = HOSTILE_SITES
    finding = {"figure": one, "of": other, "note": formula, "alarm": HOSTILE_CLASSES[0]}
    numbers = dict.fromkeys(("value", "low", "high", "claim", "epsilon", "ceiling"), 0.5)
    outcome: dict[str, Any] = {"options": {}, "notes": [HOSTILE_DESCRIPTION], "picture": None}
    tests = {
        "membership": {**outcome, "findings": [{**finding, **numbers}]},
        HOSTILE_CLASSES[1]: {**outcome, "findings": []},
    }
    accounted = {"unit": one, "site": other, "epsilon": 1.0, "delta": 1e-5}
    accounted |= {"advantage": 0.5, "true_positive_rate": 0.5}
    content = {"digest": other, "confidence": 0.95, "familywise_error": 0.05}
    write_audit(folder, {**content, "accounted": [accounted], "tests": tests}, {})


@pytest.fixture(scope="session")
def hostile() -> Any:
    """Return hostile names, and what gives them to a record, a study and an audit."""
    return SimpleNamespace(
        sites=HOSTILE_SITES,
        classes=HOSTILE_CLASSES,
        description=HOSTILE_DESCRIPTION,
        spoil=spoil,
        spoil_study=spoil_study,
        spoil_audit=spoil_audit,
    )
