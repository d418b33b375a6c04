"""Utility against epsilon: every arm once, the right ones on the front, audits beside them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fedsim.records.audit import write_audit
from fedsim.records.study import read_study
from fedsim.report import study
from fedsim.report.study import front
from fedsim.report.study.front import ALONE, Arm, Audited
from fedsim.report.study.subject import Study

AUDIT = Audited("private", 4.0, {"mechanism": 3.5, "one-run": 0.0}, {"one-run": 5.56})
METHODS = ("private", "open", "other")
SETTINGS = {"epsilon=1": 1.0, "epsilon=4": 4.0}
MEANS = {
    ("epsilon=1", "private"): 0.7,
    ("epsilon=1", "other"): 0.8,
    ("epsilon=4", "private"): 0.85,
    ("epsilon=4", "other"): 0.75,
    ("epsilon=1", "open"): 0.9,
    ("epsilon=4", "open"): 0.9,
}


def row(mean: float, **front: Any) -> dict[str, Any]:
    return {**front, "metric": "auroc", "mean": mean, "low": mean - 0.01, "high": mean + 0.02}


def comparison(*, higher_is_better: bool = True) -> dict[str, Any]:
    """Return two private methods at two epsilons, and an open one that both settings share."""
    return {
        "primary": {
            "metric": "auroc",
            "reference": "private",
            "higher_is_better": higher_is_better,
        },
        "methods": METHODS,
        "seeds": [0],
        "summary": [row(mean, setting=s, method=m) for (s, m), mean in MEANS.items()],
        "epsilon_summary": [
            {
                "setting": setting,
                "method": method,
                "unit": "example",
                "num_seeds": 1,
                "delta": 1e-5,
                "lowest": epsilon,
                "highest": epsilon,
            }
            for setting, epsilon in SETTINGS.items()
            for method in ("private", "other")
        ],
        "epsilons": [],
        "yardsticks": [
            {**row(0.6, setting="epsilon=1", yardstick="local"), "paid_as": "private"},
            {**row(0.95, setting="epsilon=1", yardstick="pooled"), "paid_as": None},
            {**row(0.65, setting="epsilon=4", yardstick="local"), "paid_as": None},
        ],
    }


def test_every_arm_stands_once_at_what_it_promises() -> None:
    found = {(arm.method, arm.epsilon): arm.mean for arm in front.arms(comparison(), "example")}
    assert found == {
        ("private", 1): 0.7,
        ("other", 1): 0.8,
        ("private", 4): 0.85,
        ("other", 4): 0.75,
        ("open", math.inf): 0.9,
        (ALONE, 1): 0.6,  # paid for; at epsilon 4 each site alone trains without privacy
        (ALONE, math.inf): 0.65,
    }
    assert {arm.epsilon for arm in front.arms(comparison(), "site")} == {math.inf}


def test_methods_with_one_budget_promise_the_same() -> None:
    content = comparison()
    for row, spent in zip(content["epsilon_summary"], (0.9993, 0.9998, 3.992, None), strict=True):
        row["highest"] = spent
    assert {arm.epsilon for arm in front.arms(content, "example")} == {1.0, 4.0, math.inf}


def brute_force(found: list[Arm]) -> set[Arm]:
    """Return the front by its definition, one pair after the other."""
    kept = set(found)
    for one in found:
        for other in found:
            no_worse = other.epsilon <= one.epsilon and other.mean >= one.mean
            better = other.epsilon < one.epsilon or other.mean > one.mean
            if no_worse and better:
                kept.discard(one)
    return kept


def test_nobody_beats_who_is_on_the_front() -> None:
    found = front.arms(comparison(), "example")
    best = front.front(found, higher_is_better=True)
    assert [(arm.method, arm.epsilon) for arm in best] == [
        ("other", 1),
        ("private", 4),
        ("open", math.inf),
    ]
    assert set(best) == brute_force(found)
    (cheapest,) = front.front(found, higher_is_better=False)
    assert cheapest.method == ALONE


def test_equals_are_both_on_the_front() -> None:
    twins = [Arm(name, 2.0, 0.8, 0.7, 0.9) for name in ("a", "b")]
    worse = Arm("c", 2.0, 0.7, 0.6, 0.8)
    assert front.front([worse, *twins], higher_is_better=True) == twins


@pytest.mark.parametrize("audits", [[], [AUDIT]], ids=["bare", "audited"])
def test_the_figure_shows_every_arm_and_audit(audits: list[Audited]) -> None:
    figure = front.utility(comparison(), "example", audits, "study")
    arms, *below = figure.axes
    shown = {
        (box.get_label(), float(box.lines[0].get_ydata()[0]), box.lines[0].get_markerfacecolor())
        for box in arms.containers
    }
    assert {(name, y) for name, y, _ in shown} == {
        *((m, mean) for (_, m), mean in MEANS.items()),
        (ALONE, 0.6),
        (ALONE, 0.65),
    }
    filled = {(name, y) for name, y, colour in shown if colour != "white"}
    assert filled == {("other", 0.8), ("private", 0.85), ("open", 0.9)}
    ticks = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert ticks == ["0", "1", "4", "none"]
    assert len(below) == len(audits)
    for axes in below:
        marks = [line for line in axes.lines if len(line.get_xdata()) == 1]
        assert sorted(float(line.get_xdata()[0]) for line in marks) == [0.0, 3.5, 4.0, 5.56]
    said = front.words(comparison(), "example", audits)
    assert "private (epsilon 4) 0.850" in said
    assert "open (no promise) 0.900" in said
    assert ("mechanism at least 3.50" in said) == bool(audits)


def test_words_round_what_is_promised_up_and_what_is_shown_down() -> None:
    content = comparison()
    content["epsilon_summary"][0]["highest"] = 10.041  # of private at epsilon=1
    said = front.words(content, "example", [Audited("private", 10.041, {"mechanism": 3.499}, {})])
    assert said.count("private (epsilon 10.05)") == 2
    assert "mechanism at least 3.49" in said


def test_the_figure_shows_arms_that_cost_nothing() -> None:
    content = comparison()
    content["epsilon_summary"][0]["highest"] = 0.0  # no round took place
    figure = front.utility(content, "example", [], "study")
    ticks = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert ticks == ["0", "1", "4", "none"]
    for row in content["epsilon_summary"]:
        row["highest"] = 0.0
    figure = front.utility(content, "example", [], "study")
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["0", "none"]


FINDING = {
    "figure": "noise",
    "of": "the model",
    "value": 1.0,
    "low": 0.9,
    "high": 1.1,
    "claim": 1.0,
    "epsilon": 3.25,
    "ceiling": None,
    "alarm": "",
    "note": "",
}


def test_the_page_has_what_is_spent_and_what_audits_found(
    make_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = b"<svg width='72pt' height='36pt'/>"
    monkeypatch.setattr("fedsim.report.canvas.encode", lambda figure, format: empty)
    folder = make_study(tmp_path / "study", methods=METHODS, settings=tuple(SETTINGS))
    file = folder / "comparison.json"
    content = json.loads(file.read_text())
    made = comparison()
    content |= {part: made[part] for part in ("epsilon_summary", "yardsticks")}
    content["epsilons"] = [
        {"setting": s, "method": "private", "seed": 0, "site": f"site-{n}", "unit": "example"}
        | {"num_units": 10, "delta": 1e-5, "epsilon": epsilon}
        for s in SETTINGS
        for n, epsilon in enumerate((0.493, None))
    ]
    content["subgroups"] = [
        {"setting": s, "method": "open", "attribute": "sex", "group": group, "num_seeds": 3}
        | {"mean": mean, "sd": 0.01, "low": mean - 0.01, "high": mean + 0.01}
        for s in SETTINGS
        for group, mean in (("f", 0.711), ("m", 0.722), (None, 0.033))
    ]
    content["subgroup_costs"] = [
        {"setting": s, "method": "open", "attribute": "sex", "group": "f", "versus": versus}
        | {"num_seeds": 3, "mean": mean, "sd": 0.01, "low": mean - 0.01, "high": mean + 0.01}
        for s in SETTINGS
        for versus, mean in ((None, 0.111), ("m", 0.022))
    ]
    file.write_text(json.dumps(content))
    run = next(iter(Study(read_study(folder), content).by_method_and_setting.values())).folder
    verdict = {"unit": "example", "site": "site-0", "delta": 1e-5, "epsilon": 3.75}
    audit = {
        "digest": "d",
        "confidence": 0.95,
        "familywise_error": 0.01,
        "accounted": [{**verdict, "advantage": 0.9, "true_positive_rate": 0.5}],
        "tests": {
            "mechanism": {"options": {}, "notes": [], "picture": None, "findings": [FINDING]}
        },
    }
    write_audit(run, audit, {})
    html = study.write(read_study(folder)).read_text(encoding="utf-8")
    assert '<section id="privacy"' in html
    assert "0.50, infinite" in html
    assert "8 trials on the same images" in html
    assert "mechanism at least 3.25" in html
    assert "0.033 [0.023, 0.043]" in html
    assert "+0.111 [+0.101, +0.121]" in html
    assert "minus that of" in html
    assert "What audits found" in html
    assert "ALARM" not in html
    audit["tests"]["mechanism"]["findings"].append(FINDING | {"alarm": "too little noise"})
    write_audit(run, audit, {})
    html = study.write(read_study(folder)).read_text(encoding="utf-8")
    top, _, rest = html.partition('<section id="privacy"')
    assert f"the audit of run {run.name} found what cannot be: too little noise." in top
    assert rest.count(">ALARM<") == 1
    for row in content["summary"]:
        row["mean"] = None  # undefined in every run: there is nothing to draw
    content["yardsticks"] = []
    file.write_text(json.dumps(content))
    html = study.write(read_study(folder)).read_text(encoding="utf-8")
    assert "What is spent" in html
    assert "example level" not in html
