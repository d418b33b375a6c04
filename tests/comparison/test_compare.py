"""A whole comparison, of studies whose answer is known and of studies that went wrong."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from clients.metrics import evaluate
from fedsim.comparison import compare, foresee, tables
from fedsim.comparison.conclusions import conclusions
from fedsim.records import read
from fedsim.records.study import read_study

Make = Callable[..., Path]
LAST = 2
"""Rounds of every run."""
BASELINES = {"pooled": 2.5, "local": 1.0}


def better(method: str, setting: str, seed: int) -> float:
    """Return models of which fedld's are clearly better than all others."""
    return 2.0 if method == "fedld" else 1.0


def alike(method: str, setting: str, seed: int) -> float:
    return 1.0


def compared(folder: Path) -> dict[str, Any]:
    """Return the comparison, which is strict JSON and can be printed."""
    found = compare(read_study(folder))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found.keys() == DOCUMENTED
    assert tables(found)
    return found


DOCUMENTED = {
    *("format", "question", "primary", "methods", "settings", "seeds", "metrics", "values"),
    *("summary", "primary_intervals", "differences", "ranks", "critical_difference"),
    *("rank_blocks", "rank_p", "rank_note", "time_to_target", "time_summary", "traffic"),
    *("worst_site", "worst_site_summary", "yardsticks", "join", "calibration"),
    *("decision_curves", "tuned", "failures", "power", "sentences"),
    *("epsilons", "epsilon_summary", "subgroups", "subgroup_costs"),
}


def primary_difference(comparison: dict[str, Any], method: str = "fedld") -> dict[str, Any]:
    (row,) = (
        row
        for row in comparison["differences"]
        if (row["method"], row["metric"]) == (method, comparison["primary"]["metric"])
    )
    return row


def test_a_clear_difference_is_shown(make_study: Make) -> None:
    comparison = compared(make_study(better, baselines=BASELINES, analysis={"target": 0.75}))
    row = primary_difference(comparison)
    assert row["verdict"] == "better"
    assert (row["wins"], row["ties"], row["losses"]) == (6, 0, 0)
    assert row["p_exact"] == 2 / 2**6
    assert comparison["sentences"][0] == row["sentence"]
    assert [rank["mean_rank"] for rank in comparison["ranks"]] == [2, 1]
    assert comparison["critical_difference"] is None
    costs = tables(comparison)["costs.md"]
    assert "6/6" in costs
    fast = {(r["method"]): r["num_reached"] for r in comparison["time_summary"]}
    assert fast["fedld"] == 6 > fast["fedavg"]
    assert {r["yardstick"] for r in comparison["yardsticks"]} == {"pooled", "local"}
    joined = {(r["method"], r["site"]): r for r in comparison["join"]}
    assert joined["fedld", "pooled"]["probability_of_harm"] == 0
    assert joined["fedld", "site-01"]["gain_over_alone"] > 0.05
    assert joined["fedld", "site-01"]["gain_over_pooled"] < 0


def test_values_are_those_of_the_runs(make_study: Make) -> None:
    folder = make_study(better, seeds=(3, 5))
    comparison = compared(folder)
    (cell,) = (c for c in read_study(folder).cells if (c.method, c.seed) == ("fedld", 5))
    predictions = read(cell.folder).predictions(LAST)["test"]
    scores, labels = (np.concatenate(part) for part in zip(*predictions.values(), strict=True))
    expected = evaluate(scores, labels, ("auroc",), "binary")["auroc"].value
    (found,) = (
        row["value"]
        for row in comparison["values"]
        if (row["method"], row["metric"], row["seed"]) == ("fedld", "auroc", 5)
    )
    assert found == expected


def test_the_bootstrap_agrees_with_the_values(make_study: Make) -> None:
    comparison = compared(make_study(better))
    reference, other = comparison["primary_intervals"]
    for row in (reference, other):
        assert row["low"] < row["mean"] < row["high"]
        assert (row["num_seeds"], row["unit"]) == (6, "image")
    assert reference["difference_low"] is None
    assert 0 < other["difference_low"] < primary_difference(comparison)["mean"]
    # pairing makes the difference surer than either value
    assert other["difference_high"] - other["difference_low"] < other["high"] - other["low"]


@pytest.mark.parametrize(
    ("verdict", "low", "high", "told"),
    [
        ("equivalent", -0.024, 0.006, True),
        ("equivalent", -0.019, 0.006, False),
        ("better", -0.001, 0.05, True),
        ("better", 0.001, 0.05, False),
        ("worse", -0.05, -0.001, False),
        ("not shown", -0.2, 0.2, False),
        ("better", None, None, False),
    ],
)
def test_a_verdict_that_other_images_may_overturn_is_said_of_these_alone(
    make_study: Make, verdict: str, low: float | None, high: float | None, told: bool
) -> None:
    comparison = compared(make_study(better, seeds=(0, 1)))
    primary_difference(comparison)["verdict"] = verdict
    interval = next(r for r in comparison["primary_intervals"] if r["method"] == "fedld")
    interval.update(difference_low=low, difference_high=high)
    said = [text for text in conclusions(comparison) if "is said of these test" in text]
    assert bool(said) == told


def test_the_same_study_gives_the_same_numbers(make_study: Make) -> None:
    folder = make_study(better, seeds=(0, 1))
    assert compared(folder) == compared(folder)


def test_without_known_images_there_is_still_an_interval(make_study: Make) -> None:
    (row, _) = compared(make_study(better, units=False))["primary_intervals"]
    assert row["low"] < row["mean"] < row["high"]


def test_equal_methods_are_not_told_apart(make_study: Make) -> None:
    row = primary_difference(compared(make_study(alike)))
    assert row["verdict"] in ("equivalent", "not shown")
    assert row["p_adjusted"] > 0.05


def test_a_failed_run_and_one_that_is_not_there_yet_are_left_out_and_told(
    make_study: Make,
) -> None:
    folder = make_study(
        better, fail=[("fedld", "base", 1)], absent=[("fedavg", "base", 2), ("fedld", "base", 5)]
    )
    comparison = compared(folder)
    assert primary_difference(comparison)["num_pairs"] == 3
    counts = {(r["method"], r["metric"]): r["num_seeds"] for r in comparison["summary"]}
    assert (counts["fedavg", "auroc"], counts["fedld", "auroc"]) == (5, 4)
    assert [failure["error"] for failure in comparison["failures"]] == ["it broke"]
    assert (
        "fedld has no value in 2 of 6 runs. They are left out, which flatters a method that failed "
        "because it diverged."
    ) in comparison["sentences"]
    assert comparison["rank_blocks"] == 3


def test_a_run_that_cannot_be_read_is_a_failure(make_study: Make) -> None:
    folder = make_study(better)
    cells = read_study(folder).cells
    shutil.rmtree(cells[0].folder)
    (cells[7].folder / "metrics.jsonl").write_text("{\n")
    comparison = compared(folder)
    assert {f["cell"] for f in comparison["failures"]} == {cells[0].cell, cells[7].cell}
    assert primary_difference(comparison)["num_pairs"] == 4


def test_nothing_has_run_yet(make_study: Make) -> None:
    absent = [(m, "base", s) for m in ("fedavg", "fedld") for s in range(6)]
    folder = make_study(better, absent=absent)
    comparison = compare(read_study(folder))
    assert comparison["values"] == []
    assert primary_difference(comparison)["verdict"] == "not shown"
    assert tables(comparison)


def test_the_reference_has_failed_everywhere(make_study: Make) -> None:
    comparison = compared(make_study(better, fail=[("fedavg", "base", s) for s in range(6)]))
    row = primary_difference(comparison)
    assert (row["num_pairs"], row["mean"], row["verdict"]) == (0, None, "not shown")
    assert "Nothing can be said" in comparison["sentences"][0]


def test_one_seed_shows_nothing(make_study: Make) -> None:
    comparison = compared(make_study(better, seeds=(4,), baselines=BASELINES))
    row = primary_difference(comparison)
    assert (row["num_pairs"], row["low"], row["p"], row["verdict"]) == (1, None, None, "not shown")
    (interval, _) = comparison["primary_intervals"]
    assert interval["low"] < interval["mean"] < interval["high"]  # of images alone


def test_one_method_has_no_differences(make_study: Make) -> None:
    comparison = compared(make_study(better, methods=("fedavg",)))
    assert comparison["differences"] == []
    assert comparison["ranks"] == []
    assert comparison["power"]["num_comparisons"] == 0


def test_a_method_that_diverges_is_undefined(
    make_study: Make, make_run: Callable[..., None]
) -> None:
    folder = make_study(better, seeds=(0, 1))
    last = read_study(folder).cells[-1].folder
    shutil.rmtree(last)
    make_run(last, seed=1, quality=1.0, noise_key=[1], diverged=True)
    comparison = compared(folder)
    values = {
        (r["method"], r["seed"]): r["value"] for r in comparison["values"] if r["metric"] == "auroc"
    }
    assert values["fedld", 1] is None
    assert primary_difference(comparison)["num_pairs"] == 1
    (row,) = (r for r in comparison["primary_intervals"] if r["method"] == "fedld")
    assert row["num_seeds"] == 1


@pytest.mark.parametrize("task", ["multiclass", "ordinal"])
def test_other_tasks_have_no_decision_curve(make_study: Make, task: str) -> None:
    metric = "quadratic_kappa" if task == "ordinal" else "balanced_accuracy"
    folder = make_study(
        better,
        seeds=(0, 1, 2),
        task=task,
        metrics=("auroc", metric),
        analysis={"metric": metric},
    )
    comparison = compared(folder)
    assert comparison["decision_curves"] == []
    assert comparison["metrics"][0] == metric
    assert {r["of"] for r in comparison["calibration"]} == {"decided class"}
    assert all(r["low"] < r["mean"] < r["high"] for r in comparison["primary_intervals"])


def test_a_smaller_loss_is_better(make_study: Make) -> None:
    comparison = compared(make_study(better, analysis={"metric": "loss"}, baselines=BASELINES))
    assert any("the mean reduction of loss was" in told for told in comparison["sentences"])
    row = primary_difference(comparison)
    assert row["mean"] < 0
    assert (row["verdict"], row["wins"]) == ("better", 6)
    assert [rank["mean_rank"] for rank in comparison["ranks"]] == [2, 1]


def test_the_mean_over_sites_leaves_out_sites_that_do_not_count(make_study: Make) -> None:
    folder = make_study(better, seeds=(0, 1), tiny_site=True, analysis={"pooled": False})
    comparison = compared(folder)
    rows = read(read_study(folder).cells[0].folder).metrics
    expected = np.mean(
        [
            row["value"]
            for row in rows
            if (row["round"], row["split"], row["metric"]) == (LAST, "test", "auroc")
            and row["site"] in ("site-00", "site-01")
        ]
    )
    (first, *_) = comparison["values"]
    assert first["value"] == pytest.approx(expected)
    assert all(row["num_sites"] == 2 for row in comparison["worst_site"])
    assert all(r["low"] < r["mean"] < r["high"] for r in comparison["primary_intervals"])


def test_settings_are_corrected_together(make_study: Make) -> None:
    folder = make_study(
        better,
        methods=("fedavg", "fedld", "third"),
        settings=("alpha=0.1", "alpha=1"),
        seeds=tuple(range(4)),
    )
    comparison = compared(folder)
    rows = [row for row in comparison["differences"] if row["metric"] == "auroc"]
    assert len(rows) == comparison["power"]["num_comparisons"] == 4
    assert {row["confidence"] for row in rows} == {1 - 0.05 / 4}
    smallest = min(rows, key=lambda row: row["p"])
    assert smallest["p_adjusted"] == pytest.approx(4 * smallest["p"])
    assert "(alpha=0.1)" in rows[0]["sentence"]
    assert comparison["power"]["exact_test_seeds"] == 8
    assert any("can reject from 8 seeds on" in sentence for sentence in comparison["sentences"])


def test_without_yardsticks_joining_is_not_answered(make_study: Make) -> None:
    comparison = compared(make_study(better))
    assert comparison["yardsticks"] == comparison["join"] == []
    files = tables(comparison)
    assert "should_my_hospital_join.md" not in files
    assert "MB to target" not in files["costs.md"]
    assert "Whether a hospital should join is not answered" in comparison["sentences"][-1]


def test_a_split_without_images_is_undefined(make_study: Make) -> None:
    folder = make_study(better, analysis={"split": "external"}, baselines=BASELINES)
    comparison = compared(folder)
    assert {row["value"] for row in comparison["values"]} == {None}
    assert primary_difference(comparison)["verdict"] == "not shown"
    assert comparison["calibration"] == comparison["join"] == []


def test_tuning_tells_what_it_chose(make_study: Make) -> None:
    folder = make_study(better, seeds=(0, 1), trials={"fedld": [0.5, 2.0, 1.0]})
    (row,) = compared(folder)["tuned"]
    (trial,) = (c for c in read_study(folder).cells if c.values == {"knob": 1} and c.trial == 1)
    value = read(trial.folder).metrics
    expected = [
        r["value"]
        for r in value
        if (r["round"], r["split"], r["site"], r["metric"])
        == (LAST, "validation", "pooled", "auroc")
    ]
    assert (row["method"], row["values"], row["num_trials"]) == ("fedld", {"knob": 1}, 3)
    assert [row["validation_value"]] == expected
    assert row["num_failed"] == 0


def test_a_pilot_foresees_what_the_study_can_show(make_study: Make) -> None:
    folder = make_study(better, seeds=tuple(range(4)))
    lines = (folder / "cells.jsonl").read_text().splitlines()
    pilot = [line.replace("final", "pilot", 1) for line in lines if '"seed": 3' not in line]
    pilot = [line.replace('"purpose": "final"', '"purpose": "pilot"') for line in pilot]
    (folder / "cells.jsonl").write_text("\n".join(pilot) + "\n")
    found = foresee(read_study(folder))
    (row,) = found["rows"]
    assert (found["num_seeds"], row["num_pairs"]) == (4, 3)
    assert row["detectable"] > 0


def test_without_any_run_nothing_is_foreseen(make_study: Make) -> None:
    folder = make_study(better, seeds=(0,))
    (folder / "cells.jsonl").unlink()
    (row,) = foresee(read_study(folder))["rows"]
    assert (row["num_pairs"], row["detectable"]) == (0, None)


def test_tables_mark_what_is_shown_not_what_is_largest(make_study: Make) -> None:
    comparison = compared(
        make_study(better, methods=("fedavg", "fedld", "a_third"), baselines=BASELINES)
    )
    for row in comparison["differences"]:
        if row["method"] == "a_third":
            row["verdict"] = "not shown"
    files = tables(comparison)
    lines = files["comparison.md"].splitlines()
    assert "▲" in next(line for line in lines if "fedld" in line)
    assert "▲" not in next(line for line in lines if "a_third" in line)
    assert any("(pooled training)" in line for line in lines)
    interval = comparison["primary_intervals"][1]
    found = f"[{interval['difference_low']:+.3f}, {interval['difference_high']:+.3f}]"
    assert found in files["seeds_and_images.md"]
    tex = files["comparison.tex"]
    assert r"a\_third" in tex
    assert r"\toprule" in tex
    assert r"\blacktriangle" in tex
    rows = list(csv.DictReader(io.StringIO(files["differences.csv"])))
    assert float(rows[0]["mean"]) == comparison["differences"][0]["mean"]


def test_every_line_of_a_latex_table_has_as_many_cells(make_study: Make) -> None:
    files = tables(compared(make_study(better, baselines=BASELINES, methods=("a&b", "fedld"))))
    for name, text in files.items():
        if name.endswith(".tex"):
            body = [line for line in text.splitlines() if line.endswith(r"\\")]
            cells = {line.replace(r"\&", "").count("&") for line in body}
            assert len(cells) == 1, name
            assert text.isascii(), name


def test_methods_that_are_not_confirmatory_cost_no_power(make_study: Make) -> None:
    methods = ("fedavg", "fedld", "control")

    def by_method(folder: Path) -> dict[str, Any]:
        found = compared(folder)
        rows = [row for row in found["differences"] if row["metric"] == "auroc"]
        return {"power": found["power"], **{row["method"]: row for row in rows}}

    folder = make_study(better, methods=methods, analysis={"confirmatory": ["fedld"]})
    planned = by_method(folder)
    assert planned["power"]["num_comparisons"] == 1
    fedld, control = planned["fedld"], planned["control"]
    assert fedld["p_adjusted"] == fedld["p"]  # nothing to correct for
    assert control["p"] is control["p_adjusted"] is control["p_exact"] is None
    assert (control["verdict"], control["confidence"]) == ("not tested", 0.95)
    half = t.ppf(0.975, control["num_pairs"] - 1) * control["sd"] / control["num_pairs"] ** 0.5
    assert control["high"] - control["mean"] == pytest.approx(half)
    head = json.loads((folder / "study.json").read_text())
    del head["analysis"]["confirmatory"]
    (folder / "study.json").write_text(json.dumps(head))
    every = by_method(folder)
    assert every["power"]["num_comparisons"] == 2
    assert every["control"]["p"] is not None
    assert every["fedld"]["p"] == fedld["p"]
    assert every["fedld"]["high"] - every["fedld"]["low"] > fedld["high"] - fedld["low"]
