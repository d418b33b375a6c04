"""How well predicted classes or numbers agree with the truth: the catalogue of metrics.

The values are scikit-learn's, loaded at the first evaluation. What is decided here is when the
examples determine a metric at all (the AUROC of a site with one class is None, never 0 and never
nan) and on how many of them it rests.

>>> log_probabilities = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
>>> evaluate(log_probabilities, np.array([0, 1, 1]), ("auroc", "sensitivity"), "binary")
{'auroc': Value(value=1.0, num_valid=3), 'sensitivity': Value(value=0.5, num_valid=2)}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clients.regression import mae, mse, r2, rmse, spearman

Task = Literal["binary", "multiclass", "ordinal", "regression"]
CLASSIFICATION: tuple[Task, ...] = ("binary", "multiclass", "ordinal")
REGRESSION: tuple[Task, ...] = ("regression",)
NUM_BINS = 15
LARGEST_FALSE_POSITIVE_RATE = 0.1


@dataclass(frozen=True)
class Value:
    """A metric's value, and how many examples it rests on.

    Args:
        value: None if the examples do not determine it.
        num_valid: positives for sensitivity, negatives for specificity, else all examples.
    """

    value: float | None
    num_valid: int


@dataclass(frozen=True)
class Predictions:
    """What all metrics of one site are computed from; at least one example.

    Args:
        scores: log P(class | image), (example, class), or predicted numbers, (example, 1); float64,
            no nan.
        labels: (example,), int64 classes or float64 numbers.
        positive: index of the positive class of a binary task.
    """

    scores: NDArray[np.float64]
    labels: NDArray[Any]
    positive: int

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The predicted numbers of a regression, (example,)."""
        return self.scores[:, 0]

    @cached_property
    def decided(self) -> NDArray[np.int64]:
        """The most probable class, (example,); among equals the one of lowest index."""
        decided: NDArray[np.int64] = self.scores.argmax(axis=1)
        return decided

    @cached_property
    def num_true(self) -> NDArray[np.int64]:
        """Examples per true class, (class,)."""
        return np.bincount(self.labels, minlength=self.scores.shape[1])

    @cached_property
    def recall_and_f1(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Recall and F1 per class, (class,) each; nan where 0 / 0."""
        from sklearn.metrics import precision_recall_fscore_support

        classes = np.arange(len(self.num_true))
        _, recall, f1, _ = precision_recall_fscore_support(
            self.labels, self.decided, labels=classes, zero_division=np.nan
        )
        return recall, f1


@dataclass(frozen=True)
class Metric:
    """One entry of the catalogue.

    Args:
        name: by which a scenario asks for it.
        title: for plots and tables.
        function: predictions -> value, None or not finite if undetermined.
        tasks: to which it applies.
        higher_is_better: the direction.
        undetermined_where: what leaves it undetermined however many examples there are.
        valid: predictions -> the number of examples that the value rests on.
        bounds: between which every value lies.
    """

    name: str
    title: str
    function: Callable[[Predictions], float | None]
    tasks: tuple[Task, ...] = CLASSIFICATION
    higher_is_better: bool = True
    undetermined_where: str = ""
    valid: Callable[[Predictions], int] = lambda p: len(p.labels)
    bounds: tuple[float, float] = (0, 1)


def evaluate(
    scores: ArrayLike,
    labels: ArrayLike,
    names: Iterable[str],
    task: Task,
    positive: int = 1,
) -> dict[str, Value]:
    """Return the named metrics of some predictions.

    Predictions that contain nan (a model that diverged) leave every metric undetermined, resting
    on 0 examples; so does having no examples. An infinite value (the loss where the true class
    has probability 0) is undetermined too.

    Args:
        scores: log P(class | image), (example, class), or predicted numbers, (example, 1).
        labels: (example,), integers in [0, class), or true numbers.
        names: of metrics that apply to `task`.
        task: what kind of classification it is, or a regression.
        positive: index of the positive class of a binary task.

    Raises:
        ValueError: if a name is no metric of `task`.
    """
    from sklearn import config_context

    metrics = [METRICS[name] for name in _known(names, task)]
    found = np.asarray(scores, dtype=np.float64)
    predictions = Predictions(found, np.asarray(labels, dtype=label_type(task)), positive)
    if len(found) == 0 or np.isnan(found).any():
        return {metric.name: Value(None, 0) for metric in metrics}
    with config_context(assume_finite=True, skip_parameter_validation=True):
        return {
            metric.name: Value(_finite(metric.function(predictions)), metric.valid(predictions))
            for metric in metrics
        }


def label_type(task: Task) -> type[np.generic]:
    """Return what labels are computed with."""
    return np.float64 if task == "regression" else np.int64


def applicable(task: Task) -> tuple[str, ...]:
    """Return the names of all metrics of `task`, in the order of the catalogue."""
    return tuple(name for name, metric in METRICS.items() if task in metric.tasks)


def _known(names: Iterable[str], task: Task) -> list[str]:
    asked = list(names)
    unknown = [name for name in asked if name not in applicable(task)]
    if unknown:
        raise ValueError(
            f"no metrics of a {task} task: {', '.join(unknown)}; "
            f"there are {', '.join(applicable(task))}"
        )
    return asked


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def auroc(p: Predictions) -> float | None:
    """Area under the ROC curve, ranked by log-odds; ties count half.

    Binary: of the positive class. Several classes, ordinal or not: the unweighted mean of
    one-versus-rest areas over the classes that are present; absent classes are left out.
    Undetermined unless two classes are present.
    """
    from sklearn.metrics import roc_auc_score

    present = np.flatnonzero(p.num_true)
    if len(present) < 2:
        return None
    classes = [p.positive] if len(p.num_true) == 2 else present
    scores = np.column_stack([log_odds(p.scores, int(c)) for c in classes])
    return float(roc_auc_score(p.labels[:, None] == classes, scores))


def average_precision(p: Predictions) -> float | None:
    """Average precision, the area under the steps of precision over recall; ranked by log-odds.

    Binary: of the positive class. Several classes, ordinal or not: the unweighted mean of
    one-versus-rest values over the classes that are present. Undetermined unless two classes are
    present. Unlike the AUROC it depends on how frequent the class is.
    """
    from sklearn.metrics import average_precision_score

    present = np.flatnonzero(p.num_true)
    if len(present) < 2:
        return None
    classes = [p.positive] if len(p.num_true) == 2 else present
    return float(
        np.mean(
            [average_precision_score(p.labels == c, log_odds(p.scores, int(c))) for c in classes]
        )
    )


def sensitivity_at_90_specificity(p: Predictions) -> float | None:
    """Largest sensitivity of any threshold on the log-odds that finds 90 % of the negatives.

    The threshold is chosen on the same examples, so the value is that of the ROC curve, not of a
    decision rule fixed beforehand. Undetermined unless both classes are present.
    """
    from sklearn.metrics import roc_curve

    if not p.num_true.all():
        return None
    scores = log_odds(p.scores, p.positive)
    fpr, tpr, _ = roc_curve(p.labels == p.positive, scores, drop_intermediate=False)
    return float(tpr[fpr <= LARGEST_FALSE_POSITIVE_RATE].max())


def log_odds(log_probabilities: NDArray[np.float64], c: int) -> NDArray[np.float64]:
    """Return log P(c) / (1 - P(c)), finite; tells images apart whose P(c) rounds to one."""
    with np.errstate(invalid="ignore"):
        others = np.logaddexp.reduce(np.delete(log_probabilities, c, axis=1), axis=1)
        log_odds: NDArray[np.float64] = np.nan_to_num(log_probabilities[:, c] - others)
    return log_odds


def accuracy(p: Predictions) -> float | None:
    """Share of examples whose most probable class is the true one."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(p.labels, p.decided))


def balanced_accuracy(p: Predictions) -> float | None:
    """Mean over classes of the share found (recall); undetermined if a class is absent."""
    return float(np.mean(p.recall_and_f1[0])) if p.num_true.all() else None


def sensitivity(p: Predictions) -> float | None:
    """Share of positive examples taken for positive; undetermined without positives."""
    return float(p.recall_and_f1[0][p.positive])


def specificity(p: Predictions) -> float | None:
    """Share of negative examples taken for negative; undetermined without negatives."""
    return float(p.recall_and_f1[0][1 - p.positive])


def f1(p: Predictions) -> float | None:
    """Harmonic mean of precision and sensitivity, 2 TP / (2 TP + FP + FN).

    Binary: of the positive class, undetermined if it is neither true nor decided anywhere.
    Several classes: the unweighted mean over the classes that are true or decided somewhere.
    """
    per_class = p.recall_and_f1[1]
    return float(per_class[p.positive] if len(per_class) == 2 else np.nanmean(per_class))


def quadratic_kappa(p: Predictions) -> float | None:
    """Agreement beyond chance between grades, disagreement weighted by its square (Cohen 1968).

    Undetermined if all examples have one true class.
    """
    from sklearn.metrics import cohen_kappa_score

    if np.count_nonzero(p.num_true) < 2:
        return None
    grades = np.arange(len(p.num_true))  # absent ones keep their place in the order
    return float(cohen_kappa_score(p.labels, p.decided, labels=grades, weights="quadratic"))


def ece(p: Predictions) -> float | None:
    """Expected calibration error: |accuracy - confidence| over 15 equal bins of confidence.

    Source: Guo et al., ICML 2017, eq. 3: confidence is the probability of the decided class, bin
    m is ((m - 1)/15, m/15], bins are weighted by their number of examples.
    """
    confidence = np.exp(p.scores.max(axis=1))
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64), 1, NUM_BINS)
    gaps = np.bincount(bins, weights=(p.decided == p.labels) - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def loss(p: Predictions) -> float | None:
    """Mean negative log-likelihood of the true class, in nats (cross-entropy).

    Not scikit-learn's log_loss, which clips probabilities and so hides infinite losses.
    """
    return float(-np.mean(p.scores[np.arange(len(p.labels)), p.labels]))


def bag_loss(p: Predictions) -> float | None:
    """Loss of bags of one, which known labels are: cross-entropy, or squared error of numbers."""
    return mse(p) if p.scores.shape[1] == 1 else loss(p)


def _positives(p: Predictions) -> int:
    return int(p.num_true[p.positive])


def _negatives(p: Predictions) -> int:
    return int(p.num_true[1 - p.positive])


ONE_CLASS = "the images are all of one class"
ONE_NUMBER = "the true numbers are all equal"
ERROR, CORRELATION = (0, math.inf), (-1, 1)

_CATALOGUE = (
    Metric("auroc", "AUROC", auroc, undetermined_where=ONE_CLASS),
    Metric(
        "average_precision", "average precision", average_precision, undetermined_where=ONE_CLASS
    ),
    Metric(
        "sensitivity_at_90_specificity",
        "sensitivity at 90 % specificity",
        sensitivity_at_90_specificity,
        ("binary",),
        undetermined_where=ONE_CLASS,
        valid=_positives,
    ),
    Metric(
        "balanced_accuracy", "balanced accuracy", balanced_accuracy, undetermined_where=ONE_CLASS
    ),
    Metric("accuracy", "accuracy", accuracy),
    Metric("sensitivity", "sensitivity", sensitivity, ("binary",), valid=_positives),
    Metric("specificity", "specificity", specificity, ("binary",), valid=_negatives),
    Metric("f1", "F1", f1),
    Metric(
        "quadratic_kappa",
        "quadratic kappa",
        quadratic_kappa,
        ("ordinal",),
        undetermined_where=ONE_CLASS,
        bounds=CORRELATION,
    ),
    Metric("ece", "calibration error", ece, higher_is_better=False),
    Metric("loss", "loss", loss, higher_is_better=False, bounds=ERROR),
    Metric(
        "bag_loss",
        "bag loss",
        bag_loss,
        CLASSIFICATION + REGRESSION,
        higher_is_better=False,
        bounds=ERROR,
    ),
    Metric("mse", "mean squared error", mse, REGRESSION, higher_is_better=False, bounds=ERROR),
    Metric(
        "rmse", "root mean squared error", rmse, REGRESSION, higher_is_better=False, bounds=ERROR
    ),
    Metric("mae", "mean absolute error", mae, REGRESSION, higher_is_better=False, bounds=ERROR),
    Metric("r2", "R²", r2, REGRESSION, undetermined_where=ONE_NUMBER, bounds=(-math.inf, 1)),
    Metric(
        "spearman",
        "Spearman correlation",
        spearman,
        REGRESSION,
        undetermined_where=ONE_NUMBER,
        bounds=CORRELATION,
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _CATALOGUE}
"""Every metric by its name."""
