"""Intervals of a run: of which values, over images or patients, alike where methods are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.bootstrap import intervals
from fedsim.flower.intervals import rows
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams
from fedsim.simulate import run

Make = Callable[..., Scenario]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a source of 90 images of 30 patients at two hospitals."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("study")
    labels = np.arange(90) // 3 % 2
    np.savez(
        folder / "s.npz",
        x=(rng.random((90, 8, 8)) * 0.6 + labels[:, None, None] * 0.3).astype(np.float32),
        y=labels,
        p=np.arange(90) // 3,
        s=np.array(["Basel", "Bern"])[np.arange(90) // 3 % 4 // 2],
    )
    keys = {"images": "x", "labels": "y", "columns": {"site": "s", "patient": "p"}}
    return {"kind": "npz", "path": str(folder / "s.npz"), **keys}


def scenario_of(tiny: Make, source: dict[str, Any], **more: Any) -> Scenario:
    return tiny(
        data={"source": source, "task": "binary"},
        population={"partition": {"kind": "by_column"}},
        evaluation={"num_resamples": 40, "metrics": ["auroc", "loss"]},
        **more,
    )


def test_rows_are_those_of_the_bootstrap_with_its_streams(
    tiny: Make, study: dict[str, Any], tmp_path: Path
) -> None:
    scenario = scenario_of(tiny, study, baselines=["pooled"])
    record = run(scenario, out=tmp_path, device="cpu")
    assert {row["unit"] for row in record.intervals} == {"patient"}
    found = {
        (r["method"], r["model"], r["site"], r["metric"]): (r["low"], r["high"])
        for r in record.intervals
    }
    methods = [(m, n) for m in ("federated", "pooled") for n in ("final", "best")]
    pooled = {(m, n, "pooled", k) for m, n in methods for k in ("auroc", "loss")}
    single = {(m, "final", s, "auroc") for m, _ in methods for s in ("Basel", "Bern")}
    assert set(found) == pooled | single
    population = open_population(scenario)
    test = record.predictions(record.selection.final_round)["test"]
    whose = [population.patients(site, "test") for site in range(2)]
    scores, labels = (np.concatenate(part) for part in zip(*test.values(), strict=True))
    expected = intervals(
        scores,
        labels,
        ("auroc", "loss"),
        "binary",
        rng=Streams(scenario.seed).numpy("bootstrap_test", group=0),
        num_resamples=40,
        patients=np.concatenate([ids for ids in whose if ids is not None]),
    )
    for metric, interval in expected.items():
        assert found["federated", "final", "pooled", metric] == (interval.low, interval.high)


def test_without_patients_images_are_drawn(tiny: Make, study: dict[str, Any]) -> None:
    source = {**study, "columns": {"site": "s"}}
    scenario = scenario_of(tiny, source)
    population = open_population(scenario)
    truth = {
        name: (
            np.zeros((len(population.indices[site]["test"]), 2), np.float32),
            population.labels[population.indices[site]["test"]],
        )
        for site, name in enumerate(population.names)
    }
    made = rows(scenario, population, {("federated", "final"): {"test": truth}})
    assert {row["unit"] for row in made} == {"image"}
    none = scenario.model_copy(
        update={"evaluation": scenario.evaluation.model_copy(update={"num_resamples": 0})}
    )
    assert rows(none, population, {("federated", "final"): {"test": truth}}) == []
