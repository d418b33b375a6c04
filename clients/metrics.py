"""How well predicted probabilities agree with the truth: the catalogue of metrics.

A metric that the examples do not determine (the AUROC of a site with one class) is None, never 0
and never nan, and every value comes with the number of examples that it rests on. All are
functions of the confusion matrix or of the log-probabilities, so that no large library is needed
at every site in every round; the tests compare them with scikit-learn.

>>> log_probabilities = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
>>> evaluate(log_probabilities, np.array([0, 1, 1]), ("auroc", "sensitivity"), "binary")
{'auroc': Value(value=1.0, num_valid=3), 'sensitivity': Value(value=0.5, num_valid=2)}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Task = Literal["binary", "multiclass", "ordinal"]
TASKS: tuple[Task, ...] = ("binary", "multiclass", "ordinal")
NUM_BINS = 15


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
    """What all metrics of one site are computed from.

    Args:
        log_probabilities: log P(class | image), (example, class), float64, no nan.
        labels: (example,), int64.
        positive: index of the positive class of a binary task.
    """

    log_probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    positive: int

    @cached_property
    def decided(self) -> NDArray[np.int64]:
        """The most probable class, (example,); among equals the one of lowest index."""
        decided: NDArray[np.int64] = self.log_probabilities.argmax(axis=1)
        return decided

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """How many examples of each class were taken for which, (true class, decided class)."""
        num_classes = self.log_probabilities.shape[1]
        cells = np.bincount(self.labels * num_classes + self.decided, minlength=num_classes**2)
        return cells.reshape(num_classes, num_classes)

    @cached_property
    def num_true(self) -> NDArray[np.int64]:
        """Examples per true class, (class,)."""
        num_true: NDArray[np.int64] = self.confusion.sum(axis=1)
        return num_true

    @cached_property
    def num_decided(self) -> NDArray[np.int64]:
        """Examples per decided class, (class,)."""
        num_decided: NDArray[np.int64] = self.confusion.sum(axis=0)
        return num_decided


@dataclass(frozen=True)
class Metric:
    """One entry of the catalogue.

    Args:
        name: by which a scenario asks for it.
        title: for plots and tables.
        function: predictions of at least one example -> value, None if undetermined.
        tasks: to which it applies.
        higher_is_better: the direction.
        needs_two_classes: whether examples of one class alone leave it undetermined.
        valid: predictions -> the number of examples that the value rests on.
    """

    name: str
    title: str
    function: Callable[[Predictions], float | None]
    tasks: tuple[Task, ...] = TASKS
    higher_is_better: bool = True
    needs_two_classes: bool = False
    valid: Callable[[Predictions], int] = lambda p: len(p.labels)


def evaluate(
    log_probabilities: ArrayLike,
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
        log_probabilities: log P(class | image), (example, class).
        labels: (example,), integers in [0, class).
        names: of metrics that apply to `task`.
        task: what kind of classification it is.
        positive: index of the positive class of a binary task.

    Raises:
        ValueError: if a name is no metric of `task`.
    """
    metrics = [METRICS[name] for name in _known(names, task)]
    scores = np.asarray(log_probabilities, dtype=np.float64)
    predictions = Predictions(scores, np.asarray(labels, dtype=np.int64), positive)
    if len(scores) == 0 or np.isnan(scores).any():
        return {metric.name: Value(None, 0) for metric in metrics}
    return {m.name: Value(_finite(m.function(predictions)), m.valid(predictions)) for m in metrics}


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


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None


def _rank_auroc(scores: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> float:
    """Return P(score of a positive > score of a negative), ties counted half (Mann-Whitney)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # equal scores share their mean rank
    num_positive = int(is_positive.sum())
    num_negative = len(scores) - num_positive
    above = ranks[is_positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def auroc(p: Predictions) -> float | None:
    """Area under the ROC curve, ranked by log-probability.

    Binary: of the positive class. Several classes, ordinal or not: the unweighted mean of
    one-versus-rest areas over the classes that are present; absent classes are left out.
    Undetermined unless two classes are present.
    """
    present = np.flatnonzero(p.num_true)
    if len(present) < 2:
        return None
    classes = [p.positive] if len(p.num_true) == 2 else present
    return float(np.mean([_rank_auroc(p.log_probabilities[:, c], p.labels == c) for c in classes]))


def accuracy(p: Predictions) -> float | None:
    """Share of examples whose most probable class is the true one."""
    return float(np.mean(p.decided == p.labels))


def balanced_accuracy(p: Predictions) -> float | None:
    """Mean over classes of the share found (recall); undetermined if a class is absent."""
    return float(np.mean(p.confusion.diagonal() / p.num_true)) if p.num_true.all() else None


def sensitivity(p: Predictions) -> float | None:
    """Share of positive examples taken for positive; undetermined without positives."""
    return _ratio(p.confusion[p.positive, p.positive], p.num_true[p.positive])


def specificity(p: Predictions) -> float | None:
    """Share of negative examples taken for negative; undetermined without negatives."""
    negative = 1 - p.positive
    return _ratio(p.confusion[negative, negative], p.num_true[negative])


def f1(p: Predictions) -> float | None:
    """Harmonic mean of precision and sensitivity, 2 TP / (2 TP + FP + FN).

    Binary: of the positive class, undetermined if it is neither true nor decided anywhere.
    Several classes: the unweighted mean over the classes that are true or decided somewhere.
    """
    either = p.num_true + p.num_decided
    if len(either) == 2:
        return _ratio(2 * p.confusion[p.positive, p.positive], either[p.positive])
    seen = either > 0
    return float(np.mean(2 * p.confusion.diagonal()[seen] / either[seen]))


def quadratic_kappa(p: Predictions) -> float | None:
    """Agreement beyond chance between grades, disagreement weighted by its square (Cohen 1968).

    Undetermined if all examples have one true class.
    """
    if np.count_nonzero(p.num_true) < 2:
        return None
    grades = np.arange(len(p.num_true))
    weights = (grades[:, None] - grades) ** 2
    by_chance = np.outer(p.num_true, p.num_decided) / len(p.labels)
    return float(1 - (weights * p.confusion).sum() / (weights * by_chance).sum())


def ece(p: Predictions) -> float | None:
    """Expected calibration error: |accuracy - confidence| over 15 equal bins of confidence.

    Source: Guo et al., ICML 2017, eq. 3: confidence is the probability of the decided class, bin
    m is ((m - 1)/15, m/15], bins are weighted by their number of examples.
    """
    confidence = np.exp(p.log_probabilities.max(axis=1))
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64), 1, NUM_BINS)
    gaps = np.bincount(bins, weights=(p.decided == p.labels) - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def loss(p: Predictions) -> float | None:
    """Mean negative log-likelihood of the true class, in nats (cross-entropy)."""
    return float(-np.mean(p.log_probabilities[np.arange(len(p.labels)), p.labels]))


def _positives(p: Predictions) -> int:
    return int(p.num_true[p.positive])


def _negatives(p: Predictions) -> int:
    return int(p.num_true[1 - p.positive])


_CATALOGUE = (
    Metric("auroc", "AUROC", auroc, needs_two_classes=True),
    Metric("balanced_accuracy", "balanced accuracy", balanced_accuracy, needs_two_classes=True),
    Metric("accuracy", "accuracy", accuracy),
    Metric("sensitivity", "sensitivity", sensitivity, ("binary",), valid=_positives),
    Metric("specificity", "specificity", specificity, ("binary",), valid=_negatives),
    Metric("f1", "F1", f1),
    Metric(
        "quadratic_kappa", "quadratic kappa", quadratic_kappa, ("ordinal",), needs_two_classes=True
    ),
    Metric("ece", "calibration error", ece, higher_is_better=False),
    Metric("loss", "loss", loss, higher_is_better=False),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _CATALOGUE}
"""Every metric by its name."""
