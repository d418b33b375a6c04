"""Metrics against formulas written out by hand, and where the examples do not determine them."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from clients.metrics import METRICS, Task, Value, applicable, evaluate

RANKING, AT_90 = ("auroc", "average_precision"), "sensitivity_at_90_specificity"
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def draw(seed: int, num_examples: int, num_classes: int, decimals: int = 1) -> tuple[Floats, Ints]:
    """Return log-probabilities, tied if of few decimals, and labels they say something about."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_examples)
    logits = np.round(rng.normal(size=(num_examples, num_classes)), decimals)
    logits[np.arange(num_examples), labels] += 0.7
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), labels


def value(scores: Floats, labels: Ints, name: str, task: Task, positive: int = 1) -> float:
    found = evaluate(scores, labels, [name], task, positive)[name]
    assert found.value is not None
    return found.value


def pair_auroc(scores: Floats, is_positive: NDArray[np.bool_]) -> float:
    pairs = list(itertools.product(scores[is_positive], scores[~is_positive]))
    return float(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_binary_auroc_counts_pairs(seed: int, positive: int) -> None:
    scores, labels = draw(seed, 60, 2, decimals=8)
    expected = pair_auroc(scores[:, positive], labels == positive)
    assert value(scores, labels, "auroc", "binary", positive) == pytest.approx(expected)


def test_auroc_counts_ties_half() -> None:
    scores = np.log(np.full((5, 2), 0.5))
    assert value(scores, np.array([0, 0, 1, 1, 1]), "auroc", "binary") == 0.5


def test_auroc_tells_probabilities_near_one_apart() -> None:
    scores = np.array([[-40.0, -4e-18], [-41.0, -1e-18]])
    assert value(scores, np.array([0, 1]), "auroc", "binary") == 1


def test_auroc_counts_ties_half_where_the_probability_is_0() -> None:
    scores = np.array([[0.0, -np.inf], [0.0, -np.inf], [-1.0, -0.5]])
    assert value(scores, np.array([0, 1, 1]), "auroc", "binary") == 0.75
    unequal = np.array([[0.0, -np.inf], [0.0, -800.0], [-1.0, -0.5]])
    assert value(unequal, np.array([0, 1, 1]), "auroc", "binary") == 1


@pytest.mark.parametrize("task", ["multiclass", "ordinal"])
def test_auroc_of_several_classes_is_the_mean_over_those_present(task: Task) -> None:
    scores, labels = draw(1, 80, 5)
    labels[labels == 2] = 4
    expected = np.mean([pair_auroc(scores[:, c], labels == c) for c in (0, 1, 3, 4)])
    assert value(scores, labels, "auroc", task) == pytest.approx(expected)


def precision_steps(scores: Floats, is_positive: NDArray[np.bool_]) -> float:
    """Return sum over thresholds of (recall gained) * precision, from its definition."""
    total = area = 0.0
    for threshold in sorted(set(scores), reverse=True):
        above = scores >= threshold
        recall = float((above & is_positive).sum() / is_positive.sum())
        area += (recall - total) * float(is_positive[above].mean())
        total = recall
    return area


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_average_precision_by_its_definition(seed: int, positive: int) -> None:
    scores, labels = draw(seed, 60, 2, decimals=8)
    expected = precision_steps(scores[:, positive], labels == positive)
    found = value(scores, labels, "average_precision", "binary", positive)
    assert found == pytest.approx(expected)
    other = value(scores, labels, "average_precision", "binary", 1 - positive)
    assert other != pytest.approx(expected, rel=1e-3)
    theirs = average_precision_score(labels == positive, scores[:, positive])
    assert found == pytest.approx(theirs)


def test_average_precision_takes_ties_together() -> None:
    tied, order = np.log([[0.3, 0.7], [0.3, 0.7], [0.8, 0.2]]), np.array([1, 0, 2])
    labels = np.array([1, 0, 0])
    assert value(tied, labels, "average_precision", "binary") == 0.5
    assert value(tied, labels[order], "average_precision", "binary") == 0.5


def test_average_precision_of_a_constant_is_the_share_of_positives() -> None:
    scores, labels = np.log(np.full((8, 2), 0.5)), np.array([1, 1, 0, 0, 0, 0, 0, 0])
    assert value(scores, labels, "average_precision", "binary") == 0.25
    assert value(scores, labels, "average_precision", "binary", positive=0) == 0.75


def test_average_precision_of_several_classes_is_the_mean_over_those_present() -> None:
    scores, labels = draw(1, 80, 4, decimals=8)
    scores, labels = scores[labels != 2], labels[labels != 2]
    odds = scores - np.log1p(-np.exp(scores))
    expected = np.mean([precision_steps(odds[:, c], labels == c) for c in (0, 1, 3)])
    assert value(scores, labels, "average_precision", "multiclass") == pytest.approx(expected)


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_sensitivity_at_90_specificity_by_all_thresholds(seed: int, positive: int) -> None:
    scores, labels = draw(seed, 70, 2, decimals=8)
    is_positive, odds = labels == positive, scores[:, positive]
    best = max(
        float((odds[is_positive] >= threshold).mean())
        for threshold in [*odds, np.inf]
        if (odds[~is_positive] < threshold).mean() >= 0.9
    )
    found = evaluate(scores, labels, ["sensitivity_at_90_specificity"], "binary", positive)
    assert found["sensitivity_at_90_specificity"] == Value(
        pytest.approx(best), int(is_positive.sum())
    )


@pytest.mark.parametrize("num_negatives", [9, 10, 19, 20, 30, 70])
def test_exactly_one_false_positive_in_ten_is_allowed(num_negatives: int) -> None:
    negatives = np.arange(num_negatives, dtype=float)
    allowed = num_negatives // 10
    between = num_negatives - 0.5 - np.arange(num_negatives)  # above 0, 1, 2, ... negatives
    odds = np.concatenate([negatives, between])
    scores = -np.logaddexp(0, np.column_stack([odds, -odds]))
    labels = np.repeat([0, 1], num_negatives)
    found = value(scores, labels, AT_90, "binary")
    assert found == (allowed + 1) / num_negatives


def test_confusion_metrics_by_hand() -> None:
    probabilities = [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]]
    scores, labels = np.log(probabilities), np.array([0, 0, 0, 1, 1, 1])
    tp, fn, tn, fp = 2, 1, 2, 1
    expected = {
        "accuracy": (tp + tn) / 6,
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "f1": 2 * tp / (2 * tp + fp + fn),
    }
    found = evaluate(scores, labels, expected, "binary")
    assert {k: v.value for k, v in found.items()} == pytest.approx(expected)
    assert [v.num_valid for v in found.values()] == [6, 6, 3, 3, 6]


@pytest.mark.parametrize("num_classes", [2, 5])
def test_balanced_accuracy_is_that_of_scikit_learn(num_classes: int) -> None:
    scores, labels = draw(8, 90, num_classes)
    expected = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert value(scores, labels, "balanced_accuracy", "multiclass") == expected


def test_macro_averages_by_hand() -> None:
    labels, decided = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 3, 2])
    found = evaluate(one_hot(decided, 4), labels, ("f1", "balanced_accuracy"), "multiclass")
    assert found["f1"].value == pytest.approx((4 / 5 + 2 / 4 + 2 / 2 + 0) / 4)
    assert found["balanced_accuracy"].value is None  # nobody has class 3
    found = evaluate(one_hot(decided % 3, 3), labels, ("f1", "balanced_accuracy"), "multiclass")
    assert found["f1"].value == pytest.approx((4 / 6 + 2 / 4 + 2 / 2) / 3)
    assert found["balanced_accuracy"].value == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_macro_f1_leaves_out_classes_that_are_nowhere() -> None:
    labels, decided = np.array([0, 0, 2]), np.array([0, 2, 2])
    assert value(one_hot(decided, 4), labels, "f1", "multiclass") == pytest.approx(2 / 3)


def test_the_positive_class_can_be_the_first() -> None:
    scores, labels = draw(2, 50, 2, decimals=9)
    names = ("sensitivity", "specificity")
    first = evaluate(scores, labels, names, "binary", positive=0)
    second = evaluate(scores, labels, names, "binary", positive=1)
    assert first["sensitivity"] == second["specificity"]
    assert first["specificity"] == second["sensitivity"]
    assert first["sensitivity"].num_valid == np.sum(labels == 0)
    swapped = evaluate(scores[:, ::-1], 1 - labels, ("f1", "auroc"), "binary", positive=0)
    assert swapped == evaluate(scores, labels, ("f1", "auroc"), "binary", positive=1)


def loop_kappa(truth: Ints, decided: Ints) -> float:
    """Return 1 - observed / expected disagreement, expected over all pairs of two ratings."""
    observed = np.mean([(a - b) ** 2 for a, b in zip(truth, decided, strict=True)])
    expected = np.mean([(a - b) ** 2 for a in truth for b in decided])
    return float(1 - observed / expected)


@pytest.mark.parametrize("seed", range(3))
def test_kappa_by_its_definition(seed: int) -> None:
    scores, labels = draw(seed, 70, 5)
    expected = loop_kappa(labels, scores.argmax(axis=1))
    assert value(scores, labels, "quadratic_kappa", "ordinal") == pytest.approx(expected)


def test_kappa_keeps_the_place_of_a_grade_that_is_nowhere() -> None:
    labels, decided = np.array([0, 0, 1, 4, 4]), np.array([0, 1, 1, 4, 1])
    found = value(one_hot(decided, 5), labels, "quadratic_kappa", "ordinal")
    assert found == pytest.approx(loop_kappa(labels, decided))
    closed_up = loop_kappa(np.minimum(labels, 2), np.minimum(decided, 2))
    assert found != pytest.approx(closed_up, rel=0.01)


def one_hot(decided: Ints, num_classes: int) -> Floats:
    return np.log(np.eye(num_classes)[decided] * 0.98 + 0.02 / num_classes)


def test_kappa_is_1_for_agreement_0_for_a_constant_and_worse_for_far_misses() -> None:
    labels = np.array([0, 1, 2, 3, 4, 4])
    kappa = [
        value(one_hot(np.array(decided), 5), labels, "quadratic_kappa", "ordinal")
        for decided in (labels, [2] * 6, [1, 1, 2, 3, 4, 4], [4, 1, 2, 3, 4, 4])
    ]
    assert kappa[:2] == [1, 0]
    assert kappa[3] < kappa[2] < 1


@pytest.mark.parametrize("seed", range(3))
def test_ece_by_a_loop(seed: int) -> None:
    scores, labels = draw(seed, 200, 3)
    probabilities = np.exp(scores)
    expected = 0.0
    for m in range(1, 16):
        inside = [i for i, p in enumerate(probabilities.max(axis=1)) if (m - 1) / 15 < p <= m / 15]
        if inside:
            accuracy = np.mean(probabilities[inside].argmax(axis=1) == labels[inside])
            confidence = probabilities[inside].max(axis=1).mean()
            expected += len(inside) / 200 * abs(accuracy - confidence)
    assert value(scores, labels, "ece", "multiclass") == pytest.approx(expected)


def test_ece_of_sure_predictions_is_the_error_rate_and_of_calibrated_ones_0() -> None:
    sure = np.array([[0.0, -np.inf]] * 4)
    assert value(sure, np.array([0, 0, 0, 1]), "ece", "binary") == 0.25
    calibrated = np.log([[0.75, 0.25]] * 4)
    assert value(calibrated, np.array([0, 0, 0, 1]), "ece", "binary") == pytest.approx(0)


def test_loss_is_the_mean_negative_log_likelihood() -> None:
    scores, labels = draw(4, 30, 3)
    expected = sum(-scores[i, label] for i, label in enumerate(labels)) / 30
    assert value(scores, labels, "loss", "multiclass") == pytest.approx(expected)
    uniform = np.log(np.full((4, 5), 0.2))
    labels = np.array([0, 1, 2, 3])
    assert value(uniform, labels, "loss", "ordinal") == pytest.approx(math.log(5))


@pytest.mark.parametrize(
    ("task", "labels", "decided", "undetermined"),
    [
        ("binary", [1, 1], [1, 0], {*RANKING, "balanced_accuracy", "specificity", AT_90}),
        ("binary", [0, 0], [1, 0], {*RANKING, "balanced_accuracy", "sensitivity", AT_90}),
        ("binary", [0, 0], [0, 0], {*RANKING, "balanced_accuracy", "sensitivity", "f1", AT_90}),
        ("binary", [0, 1], [0, 0], set()),
        ("multiclass", [2, 2], [0, 2], {*RANKING, "balanced_accuracy"}),
        ("multiclass", [1, 2], [0, 2], {"balanced_accuracy"}),
        ("ordinal", [2, 2], [2, 2], {*RANKING, "balanced_accuracy", "quadratic_kappa"}),
        ("ordinal", [0, 1, 2], [1, 1, 1], set()),
    ],
)
def test_what_the_examples_do_not_determine_is_none(
    task: Task, labels: list[int], decided: list[int], undetermined: set[str]
) -> None:
    scores = one_hot(np.array(decided), 2 if task == "binary" else 3)
    found = evaluate(scores, labels, applicable(task), task)
    assert {name for name, v in found.items() if v.value is None} == undetermined
    assert found["accuracy"].num_valid == len(labels)
    if task == "binary":
        assert found["sensitivity"].num_valid == sum(labels)
        assert found["specificity"].num_valid == len(labels) - sum(labels)
    if len(set(labels)) == 1:
        assert {n for n in applicable(task) if METRICS[n].undetermined_where} <= undetermined


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal"])
def test_no_examples_and_diverged_models_determine_nothing(task: Task) -> None:
    nothing = dict.fromkeys(applicable(task), Value(None, 0))
    assert evaluate(np.zeros((0, 3)), np.zeros(0), applicable(task), task) == nothing
    diverged = np.array([[np.nan, np.nan, np.nan], [-1.1, -1.1, -1.1]])
    assert evaluate(diverged, [0, 1], applicable(task), task) == nothing


def test_an_infinite_loss_is_none() -> None:
    found = evaluate([[0.0, -np.inf]], [1], ["loss", "accuracy"], "binary")
    assert found == {"loss": Value(None, 1), "accuracy": Value(0.0, 1)}


def test_values_are_plain_floats_in_the_order_asked() -> None:
    scores, labels = draw(6, 40, 2)
    names = tuple(reversed(applicable("binary")))
    found = evaluate(scores.astype(np.float32), labels, names, "binary")
    assert tuple(found) == names
    assert {(type(v.value), type(v.num_valid)) for v in found.values()} == {(float, int)}


@pytest.mark.parametrize(("name", "task"), [("dice", "binary"), ("sensitivity", "ordinal")])
def test_a_name_that_is_no_metric_of_the_task_is_refused(name: str, task: Task) -> None:
    with pytest.raises(ValueError, match=rf"{task} task: {name}; there are auroc"):
        evaluate(np.zeros((1, 2)), [0], [name], task)


def test_the_catalogue_is_in_order() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.tasks
    assert {n for n, m in METRICS.items() if not m.higher_is_better} == {
        "ece",
        "loss",
        "bag_loss",
        "mse",
        "rmse",
        "mae",
    }


@pytest.mark.parametrize("task", ["binary", "ordinal", "regression"])
def test_every_value_lies_within_the_bounds_and_some_at_them(task: Task) -> None:
    classes = {"binary": 2, "ordinal": 4, "regression": 2}[task]
    truth = np.arange(24) % classes
    right = np.log(0.998 * np.eye(classes)[truth] + 0.002 / classes)
    guesses = [right, np.roll(right, 1, axis=1), *(draw(n, 24, classes)[0] for n in range(20))]
    if task == "regression":
        guesses = [truth[:, None], -truth[:, None], *(guess[:, :1] for guess in guesses)]
    for name in applicable(task):
        found = [evaluate(guess, truth, [name], task)[name].value for guess in guesses]
        defined = [value for value in found if value is not None]
        lowest, highest = METRICS[name].bounds
        assert all(lowest <= value <= highest for value in defined)
        best, bound = (max, highest) if METRICS[name].higher_is_better else (min, lowest)
        assert best(defined) == pytest.approx(bound, abs=0.005)


def test_import_is_light() -> None:
    code = (
        "import sys, clients.metrics\n"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'monai') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_evaluation_of_twenty_sites_costs_little() -> None:
    sites: list[Any] = [draw(seed, 200, 2) for seed in range(40)]
    evaluate(sites[0][0], sites[0][1], applicable("binary"), "binary")  # loads scikit-learn
    start = time.process_time()
    for scores, labels in sites:
        evaluate(scores, labels, applicable("binary"), "binary")
    assert time.process_time() - start < 1


def test_auroc_ranks_images_of_which_the_model_is_sure_in_single_precision() -> None:
    margins = np.array([20.0, 25.0, 30.0, 35.0])
    log_probabilities = np.stack([-margins, -np.exp(-margins)], axis=1).astype(np.float32)
    assert (log_probabilities[1:, 1] > -1e-10).all()
    assert value(log_probabilities, np.array([0, 0, 1, 1]), "auroc", "binary") == 1.0
