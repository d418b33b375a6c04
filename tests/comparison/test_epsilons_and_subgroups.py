"""What is spent, and how groups of patients fare, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import sem, t
from sklearn.metrics import roc_auc_score

from fedsim.comparison.epsilons import epsilon_summary, epsilons
from fedsim.comparison.outcomes import Outcome
from fedsim.comparison.primary import Primary
from fedsim.comparison.subgroups import gap, subgroup_costs, subgroups

PRIMARY = Primary("auroc", "test", True, "fedavg", 0.02, "final", None, "auroc", 0.95, 0.8)


def account(site: str, epsilon: float, unit: str = "example") -> Any:
    return SimpleNamespace(site=site, unit=unit, num_units=10, delta=1e-5, epsilon=epsilon)


def run(**more: Any) -> Any:
    facts = {"setting": "base", "method": "m", "seed": 0, "task": "binary", "positive": 1}
    return SimpleNamespace(**{**facts, "accounts": (), "attributes": {}, "predictions": {}, **more})


def test_the_summary_spans_all_sites_and_seeds() -> None:
    runs: list[Outcome] = [
        run(accounts=[account("a", 1.0), account("b", 2.0)]),
        run(seed=1, accounts=[account("a", 3.0), account("b", 0.5), account("a", 9.0, "label")]),
        run(method="open"),
        run(method="clipped", accounts=[account("a", float("inf")), account("b", 1.0)]),
    ]
    rows = epsilons(runs)
    assert [row["epsilon"] for row in rows] == [1.0, 2.0, 3.0, 0.5, 9.0, None, 1.0]
    found = {
        (row["method"], row["unit"]): (row["lowest"], row["highest"], row["num_seeds"])
        for row in epsilon_summary(rows)
    }
    assert found == {
        ("m", "example"): (0.5, 3.0, 2),
        ("m", "label"): (9.0, 9.0, 1),
        ("clipped", "example"): (1.0, None, 1),
    }


def predicted(rng: np.random.Generator, skill: np.ndarray, labels: np.ndarray) -> Any:
    logits = rng.normal(0, 1, (len(labels), 2))
    logits[np.arange(len(labels)), labels] += skill
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), labels


def test_groups_reach_across_sites_and_the_gap_is_that_of_each_seed() -> None:
    rng = np.random.default_rng(0)
    runs, truth = [], []
    for seed in range(3):
        by_site, sexes = {}, {}
        for site in ("a", "b"):
            sexes[site] = rng.choice(["f", "m", ""], 60).tolist()
            skill = np.where(np.array(sexes[site]) == "f", 2.0, 0.5)
            by_site[site] = predicted(rng, skill, rng.integers(2, size=60))
        runs.append(run(seed=seed, predictions=by_site, attributes={"sex": sexes}))
        scores, labels = (np.concatenate(part) for part in zip(*by_site.values(), strict=True))
        known = np.array(sexes["a"] + sexes["b"])
        truth.append([roc_auc_score(labels[known == g], scores[known == g, 1]) for g in "fm"])
    f, m, difference = subgroups([*runs, run(method="without attributes")], PRIMARY)
    assert [row["group"] for row in (f, m, difference)] == ["f", "m", None]
    assert (f["mean"], m["mean"]) == pytest.approx(np.mean(truth, axis=0))
    assert difference["mean"] == pytest.approx(np.mean([abs(a - b) for a, b in truth]))
    assert difference["num_seeds"] == 3


def test_costs_are_paired_by_seed_and_signed() -> None:
    # by sklearn, seed by seed; in seed 3 there is no reference, so that it is no pair
    rng = np.random.default_rng(1)
    runs, truth = [], []
    for seed in range(4):
        sexes, labels = rng.choice(["f", "m"], 120), rng.integers(2, size=120)
        reached = {}
        for method, lost in (("fedavg", 0.0), ("private", 1.5)):
            if (seed, method) == (3, "fedavg"):
                continue
            by_site = {"a": predicted(rng, np.where(sexes == "f", 2.0 - lost, 2.0), labels)}
            attributes = {"sex": {"a": sexes.tolist()}}
            runs.append(run(method=method, seed=seed, predictions=by_site, attributes=attributes))
            p = by_site["a"][0][:, 1]
            reached[method] = [roc_auc_score(labels[sexes == g], p[sexes == g]) for g in "fm"]
        if seed < 3:
            truth.append(np.subtract(reached["private"], reached["fedavg"]))
    costs = np.array(truth)
    rows = subgroup_costs(runs, PRIMARY)
    assert [(r["method"], r["group"], r["versus"], r["num_seeds"]) for r in rows] == [
        ("private", "f", None, 3),
        ("private", "m", None, 3),
        ("private", "f", "m", 3),
    ]
    wanted = np.column_stack([costs, costs[:, 0] - costs[:, 1]])
    for row, values in zip(rows, wanted.T, strict=True):
        between = t.interval(0.95, 2, values.mean(), sem(values))
        assert (row["mean"], row["low"], row["high"]) == pytest.approx((values.mean(), *between))
    assert rows[2]["mean"] < 0  # it is the women who lose


def test_privacy_that_hurts_all_alike_widens_the_gap_and_not_the_difference_of_costs() -> None:
    rng = np.random.default_rng(2)
    runs = []
    for seed in range(60):
        sexes, labels = rng.choice(["f", "m"], 200), rng.integers(2, size=200)
        for method, skill in (("fedavg", 2.5), ("private", 0.9)):
            by_site = {"a": predicted(rng, np.full(200, skill), labels)}
            attributes = {"sex": {"a": sexes.tolist()}}
            runs.append(run(method=method, seed=seed, predictions=by_site, attributes=attributes))
    gaps = {r["method"]: r["mean"] for r in subgroups(runs, PRIMARY) if r["group"] is None}
    assert gaps["private"] > 1.5 * gaps["fedavg"]
    difference = subgroup_costs(runs, PRIMARY)[-1]
    assert difference["low"] < 0 < difference["high"]


def test_a_gap_with_an_undefined_group_is_undefined() -> None:
    assert gap([0.5, None]) is None
    assert gap([]) is None
    assert gap([0.5, 0.75, 0.625]) == 0.25
