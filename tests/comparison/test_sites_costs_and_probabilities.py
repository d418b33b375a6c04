"""Sites, costs, calibration and decision curves, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedsim.comparison.conclusions import ALONE_UNKNOWN, TWO_WAYS_TO_BE_ALONE, _harm
from fedsim.comparison.costs import time_summary, time_to_target, traffic
from fedsim.comparison.joining import join
from fedsim.comparison.outcomes import Outcome, Step
from fedsim.comparison.primary import Primary
from fedsim.comparison.probabilities import (
    THRESHOLDS,
    calibration,
    decision_curves,
    net_benefit,
    reliability,
)
from fedsim.comparison.worst_site import worst_site
from fedsim.comparison.yardsticks import with_yardsticks, yardsticks
from fedsim.privacy import BUILTIN, Mechanism

PRIMARY = Primary("auroc", "test", True, "fedavg", 0.02, "final", 0.8, "auroc", 0.95, 0.8)


def run(method: str = "fedavg", seed: int = 0, **more: Any) -> Outcome:
    """Return a run at sites a, b and c, of which c is too small to count."""
    facts: dict[str, Any] = {
        "method": method,
        "setting": "base",
        "seed": seed,
        "task": "binary",
        "positive": 1,
        "metrics": ("auroc",),
        "scores": {("a", "auroc"): 0.9, ("b", "auroc"): 0.8, ("c", "auroc"): 0.1},
        "sites": ("a", "b", "c"),
        "valid": ("a", "b"),
        "num_train": {"a": 100, "b": 50, "c": 5},
        "steps": (Step(0, 0.5, 0.0, 0), Step(1, None, 3.0, 10), Step(2, 0.8, 6.0, 20)),
        "bytes_down": 30,
        "bytes_up": 10,
        "yardsticks": {},
        "predictions": {},
        "units": {},
        "unit": "image",
        "attributes": {},
        "accounts": (),
    }
    return Outcome(**{**facts, **more})


def test_the_worst_site_is_among_those_that_count_in_every_run() -> None:
    runs = [run(), run("fedld", valid=("a",)), run(seed=1)]
    found = [
        (row["method"], row["seed"], row["site"], row["value"]) for row in worst_site(runs, PRIMARY)
    ]
    assert found == [("fedavg", 0, "a", 0.9), ("fedld", 0, "a", 0.9), ("fedavg", 1, "b", 0.8)]


def test_the_worst_loss_is_the_largest() -> None:
    scores = {("a", "loss"): 0.3, ("b", "loss"): 0.7}
    (row,) = worst_site([run(scores=scores)], replace(PRIMARY, metric="loss"))
    assert (row["site"], row["value"]) == ("b", 0.7)


def test_an_undefined_site_leaves_the_worst_undefined() -> None:
    undefined = run(scores={("a", "auroc"): 0.9, ("b", "auroc"): None})
    nowhere = run(valid=(), seed=1)
    for row in worst_site([undefined, nowhere], PRIMARY):
        assert row["site"] is row["value"] is None


def bars(local: float, pooled: float) -> dict[tuple[str, str, str], float]:
    return {
        (kind, site, "auroc"): value
        for kind, value in (("local", local), ("pooled", pooled))
        for site in ("a", "b", "pooled")
    }


def test_gain_and_harm_by_hand() -> None:
    # alone 0.85: site a (0.9) gains 0.05, site b (0.8) is harmed by 0.05, in both seeds alike
    runs = [run(seed=seed, yardsticks=bars(0.85, 0.95)) for seed in (0, 1)]
    a, b, everyone = join(runs, with_yardsticks(runs, PRIMARY), PRIMARY)
    assert (a["site"], a["num_train"], a["num_seeds"]) == ("a", 100, 2)
    assert a["gain_over_alone"] == pytest.approx(0.05)
    assert a["gain_over_pooled"] == pytest.approx(-0.05)
    assert (a["probability_of_harm"], b["probability_of_harm"]) == (0, 1)
    assert 0 < a["harm_high"] < 1
    assert everyone["site"] == "pooled"
    assert everyone["gain_over_alone"] == pytest.approx(0)
    assert everyone["probability_of_harm"] == 0.5
    assert everyone["harm_low"] < 0.5 < everyone["harm_high"]


def test_a_smaller_loss_than_alone_is_a_gain() -> None:
    marks = {("local", site, "loss"): 0.5 for site in ("a", "b")}
    lossy = run(scores={("a", "loss"): 0.4, ("b", "loss"): 0.6}, yardsticks=marks)
    primary = replace(PRIMARY, metric="loss")
    a, b, _ = join([lossy], with_yardsticks([lossy], primary), primary)
    assert a["gain_over_alone"] == pytest.approx(0.1)
    assert (a["probability_of_harm"], b["probability_of_harm"]) == (0, 1)


def test_all_methods_are_held_against_the_reference_yardsticks() -> None:
    runs = [run("fedld", yardsticks=bars(0.1, 0.2)), run(yardsticks=bars(0.85, 0.95))]
    found = with_yardsticks(runs, PRIMARY)
    assert [run.method for run in found["base", 0]] == ["fedavg"]
    local, pooled = sorted(
        yardsticks(runs, found, ("auroc",), PRIMARY), key=lambda row: row["mean"]
    )
    assert (local["yardstick"], local["mean"]) == ("local", 0.85)
    assert (pooled["yardstick"], pooled["mean"]) == ("pooled", 0.95)
    only_other = [run("fedld", yardsticks=bars(0.1, 0.2)), run()]
    assert [run.method for run in with_yardsticks(only_other, PRIMARY)["base", 0]] == ["fedld"]


def spends(epsilon: float, unit: str = "example") -> dict[str, Any]:
    return {"accounts": [SimpleNamespace(unit=unit, epsilon=epsilon)]}


def test_each_way_to_be_alone_has_its_own_yardstick() -> None:
    runs = [
        run("open", yardsticks=bars(0.95, 0.99)),
        run("clipped", yardsticks=bars(0.3, 0.3), **spends(math.inf)),
        run("fedld", yardsticks=bars(0.1, 0.2), **spends(2.0)),
        run(yardsticks=bars(0.85, 0.9), **spends(2.0)),
    ]
    rows = yardsticks(runs, with_yardsticks(runs, PRIMARY), ("auroc",), PRIMARY)
    assert [(r["yardstick"], r["trained_as"], r["paid_as"], r["mean"]) for r in rows] == [
        ("pooled", "fedavg", None, 0.9),
        ("local", "fedavg", "fedavg", 0.85),
        ("local", "open", None, 0.95),
    ]


def test_a_method_is_held_against_every_site_alone_that_promises_no_more() -> None:
    # at site a the private federation (0.9) gains 0.05 over a site alone for the same epsilon, and
    # loses 0.05 to one that trains without privacy
    runs = [
        run(yardsticks=bars(0.85, 0.99), **spends(2.0)),
        run("ditto", **spends(2.01)),  # the same but for the steps of noise multipliers
        run("fixed", **spends(3.0)),
        run("clipped", **spends(math.inf)),
        run("whole_site", **spends(1.0, "site")),  # hides nothing while sites train
        run("open", yardsticks=bars(0.95, 0.99)),
    ]
    rows = [r for r in join(runs, with_yardsticks(runs, PRIMARY), PRIMARY) if r["site"] == "a"]
    gains = {(r["method"], r["paid_as"]): round(r["gain_over_alone"], 9) for r in rows}
    private = {(method, "fedavg"): 0.05 for method in ("fedavg", "ditto")}
    assert gains == private | {(r.method, None): -0.05 for r in runs}
    assert {r["trained_as"] for r in rows if r["paid_as"] is None} == {"open"}


def test_sentences_and_tables_say_against_whom() -> None:
    runs = [
        run(yardsticks=bars(0.85, 0.99), **spends(2.0)),
        run(seed=1, yardsticks=bars(0.85, 0.99), **spends(2.0)),
        run("open", yardsticks=bars(0.95, 0.99)),
        run("open", seed=1, yardsticks=bars(0.95, 0.99)),
    ]
    rows = join(runs, with_yardsticks(runs, PRIMARY), PRIMARY)
    content = {
        "settings": ["base"],
        "primary": {"metric": "auroc"},
        "join": rows,
        "epsilon_summary": [{"unit": "example"}],
    }
    said = list(_harm(content))
    assert [text.split(" of sites")[1].split("than ")[1].split(";")[0] for text in said[:3]] == [
        "alone for fedavg's epsilon",
        "alone without privacy (as open trains)",
        "alone without privacy (as open trains)",
    ]
    assert said[3:] == [TWO_WAYS_TO_BE_ALONE]
    only_private = {**content, "join": [row for row in rows if row["paid_as"]]}
    assert list(_harm(only_private))[1:] == [ALONE_UNKNOWN]
    nobody_private = {**content, "epsilon_summary": [], "join": rows[-3:]}
    assert "worse off than alone;" in " ".join(_harm(nobody_private))


@pytest.mark.parametrize("mechanism", BUILTIN)
def test_sites_alone_pay_where_sites_train_with_noise(mechanism: type[Mechanism]) -> None:
    spent = SimpleNamespace(unit=mechanism.unit, epsilon=1.0)
    runs = [run(yardsticks=bars(0.8, 0.9), accounts=[spent])]
    paid_as = {
        row["yardstick"]: row["paid_as"]
        for row in yardsticks(runs, with_yardsticks(runs, PRIMARY), ("auroc",), PRIMARY)
    }
    alone = "fedavg" if mechanism.clips == "gradients" else None
    assert paid_as == {"local": alone, "pooled": None}


def test_without_yardsticks_nothing_is_said_of_joining() -> None:
    runs = [run()]
    assert with_yardsticks(runs, PRIMARY) == {}
    assert join(runs, {}, PRIMARY) == []
    assert yardsticks(runs, {}, ("auroc",), PRIMARY) == []


def test_yardsticks_are_means_over_the_same_sites_as_the_methods() -> None:
    known = {("pooled", "a", "auroc"): 0.9, ("pooled", "b", "auroc"): 0.7}
    others = {("pooled", "c", "auroc"): 0.0, ("pooled", "pooled", "auroc"): 0.99}
    runs = [run(yardsticks={**known, **others})]
    primary = replace(PRIMARY, pooled=False)
    (found,) = yardsticks(runs, with_yardsticks(runs, primary), ("auroc",), primary)
    assert found["mean"] == pytest.approx(0.8)


def test_sets_that_no_site_holds_cannot_join() -> None:
    abroad = {"sites": ("abroad",), "valid": ("abroad",), "scores": {("abroad", "auroc"): 0.9}}
    runs = [run(**abroad, yardsticks={("pooled", "abroad", "auroc"): 0.8})]
    assert join(runs, with_yardsticks(runs, PRIMARY), PRIMARY) == []


def test_time_to_target_is_of_the_first_round_as_good() -> None:
    (row,) = time_to_target([run()], PRIMARY)
    assert (row["rounds"], row["virtual_s"], row["bytes"]) == (2, 6.0, 20)
    (down,) = time_to_target([run()], replace(PRIMARY, metric="loss", target=0.5))
    assert (down["rounds"], down["virtual_s"], down["bytes"]) == (0, 0.0, 0)
    assert time_to_target([run()], replace(PRIMARY, target=None)) == []


def test_runs_that_never_reach_it_count_as_the_latest() -> None:
    never = (Step(0, 0.5, None, 0),)
    runs = [
        run(),
        run(seed=1),
        run(seed=2, steps=never),
        run("fedld", steps=never),
        run("fedld", 1),
    ]
    first, second = time_summary(time_to_target(runs, PRIMARY))
    assert (first["num_reached"], first["num_seeds"], first["median_rounds"]) == (2, 3, 2)
    assert (second["num_reached"], second["num_seeds"], second["median_rounds"]) == (1, 2, None)


def test_traffic_is_the_mean_over_seeds() -> None:
    (row,) = traffic([run(), run(seed=1, bytes_down=50)])
    assert (row["bytes_down"], row["bytes_up"]) == (40, 10)


def test_net_benefit_by_hand() -> None:
    probabilities, sick = np.array([0.9, 0.6, 0.4, 0.1]), np.array([True, False, True, False])
    # from 0.5 on: one of four found, one treated in vain: 1/4 - 1/4 * 1; from 0.2: 2/4 - 1/4 * 1/4
    assert net_benefit(probabilities, sick, [0.5, 0.2]) == pytest.approx([0, 7 / 16])


def test_treating_all_has_the_net_benefit_of_the_prevalence() -> None:
    sick = np.arange(10) < 3
    found = net_benefit(np.ones(10), sick, THRESHOLDS)
    assert found == pytest.approx([0.3 - 0.7 * p / (1 - p) for p in THRESHOLDS])


def predicted(probabilities: list[float], labels: list[int]) -> Any:
    p = np.array(probabilities)
    return np.log(np.stack([1 - p, p], axis=1)).astype(np.float32), np.array(labels)


def test_decision_curves_are_means_over_seeds() -> None:
    good = {"a": predicted([0.9, 0.1], [1, 0])}
    bad = {"a": predicted([0.1, 0.9], [1, 0])}
    (row,) = decision_curves([run(predictions=good), run(seed=1, predictions=bad)], 0.95)
    half = row["thresholds"].index(0.5)
    assert row["net_benefit"][half] == pytest.approx((0.5 - 0.5) / 2)
    assert row["treat_all"][half] == pytest.approx(0)
    assert row["num_seeds"] == 2
    assert decision_curves([run(task="ordinal", predictions=good)], 0.95) == []


def test_predictions_that_are_no_numbers_have_no_curve() -> None:
    lost = {"a": predicted([np.nan, 0.1], [1, 0])}
    assert decision_curves([run(predictions=lost)], 0.95) == []
    (row,) = calibration([run(predictions=lost)], 0.95)
    assert (row["num_seeds"], row["ece"], row["bins"]) == (0, None, [])


def test_reliability_by_hand() -> None:
    scores, labels = predicted([0.95, 0.97, 0.01, 0.03], [1, 0, 0, 0])
    low, high = reliability(scores, labels, 1)
    assert (low["count"], low["seen"]) == (2, 0)
    assert low["said"] == pytest.approx(0.02)
    assert (high["count"], high["seen"]) == (2, 0.5)
    assert high["said"] == pytest.approx(0.96)


def test_reliability_of_several_classes_is_of_the_decided_one() -> None:
    scores = np.log(np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]]))
    (row,) = reliability(scores, np.array([0, 0]), None)
    assert (row["count"], row["seen"]) == (2, 0.5)
    assert row["said"] == pytest.approx(0.7)


def test_the_bins_give_the_calibration_error_of_the_decided_class() -> None:
    rng = np.random.default_rng(0)
    scores = np.log(rng.dirichlet([1, 1, 1], 200))
    labels = rng.integers(3, size=200)
    bins = reliability(scores, labels, None)
    error = sum(row["count"] / 200 * abs(row["seen"] - row["said"]) for row in bins)
    own = {"a": (scores.astype(np.float64), labels)}
    (found,) = calibration([run(task="multiclass", predictions=own)], 0.95)
    assert found["ece"] == pytest.approx(error)
    assert found["of"] == "decided class"
