"""Are the probabilities to be believed, and would decisions by them do good?

Calibration: the expected calibration error of each run, then mean and interval over seeds; and the
reliability curve of all seeds' predictions together, in 15 bins of the probability of the positive
class (of the decided class if there are more than two).

Decision curve, binary tasks alone: who treats everybody with a probability of at least p says that
a missed case weighs (1 - p) / p times as much as a needless treatment. The net benefit per patient
is TP / n - FP / n * p / (1 - p); treating nobody has 0, treating all prevalence - (1 - prevalence)
* p / (1 - p) (Vickers and Elkin, Medical Decision Making 2006). A model is of use at p where it is
above both. The prevalence is that of the test images, often far from a clinic's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.metrics import NUM_BINS, evaluate
from fedsim.comparison.estimates import estimate
from fedsim.comparison.outcomes import Outcome, together

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 17))
"""Probabilities from 5 % to 80 %: from screening to treatment that does harm."""


def calibration(runs: Iterable[Outcome], confidence: float) -> list[dict[str, Any]]:
    """Return calibration error and reliability curve, per setting and method; none of a regression.

    A predicted number is no probability.
    """
    rows = []
    classifying = (run for run in runs if run.task != "regression")
    for (setting, method), found in _groups(classifying).items():
        parts = [together(list(run.predictions.values())) for run in found]
        errors = [
            evaluate(*part, ("ece",), run.task)["ece"].value
            for run, part in zip(found, parts, strict=True)
        ]
        ece = estimate(errors, confidence)
        whole = [part for part, error in zip(parts, errors, strict=True) if error is not None]
        positive = found[0].positive if found[0].task == "binary" else None
        rows.append(
            {
                "setting": setting,
                "method": method,
                "num_seeds": ece.num,
                "ece": ece.mean,
                "low": ece.low,
                "high": ece.high,
                "of": "decided class" if positive is None else "positive class",
                "bins": reliability(*together(whole), positive) if whole else [],
            }
        )
    return rows


def reliability(
    log_probabilities: NDArray[np.floating], labels: NDArray[np.integer], positive: int | None
) -> list[dict[str, Any]]:
    """Return for each bin that is not empty its mean probability, the share that is so, the count.

    Bins are closed above, the first also below.

    Args:
        log_probabilities: (example, class).
        labels: (example,).
        positive: whose probability is looked at; that of the decided class if None.
    """
    probabilities = np.clip(np.exp(log_probabilities.astype(np.float64)), 0, 1)
    said = probabilities.max(axis=1) if positive is None else probabilities[:, positive]
    so = labels == (probabilities.argmax(axis=1) if positive is None else positive)
    bins = np.clip(np.ceil(said * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    sums, hits = (np.bincount(bins, weights=w, minlength=NUM_BINS) for w in (said, so))
    return [
        {
            "said": float(sums[b] / counts[b]),
            "seen": float(hits[b] / counts[b]),
            "count": int(counts[b]),
        }
        for b in np.flatnonzero(counts)
    ]


def decision_curves(runs: Iterable[Outcome], confidence: float) -> list[dict[str, Any]]:
    """Return the net benefit at every threshold, mean and interval over seeds; binary tasks."""
    rows = []
    for (setting, method), found in _groups(run for run in runs if run.task == "binary").items():
        curves, everybody = [], []
        for run in found:
            scores, labels = together(list(run.predictions.values()))
            sick = labels == run.positive
            everybody.append(net_benefit(np.ones(len(labels)), sick, THRESHOLDS))
            if not np.isnan(scores).any():
                probabilities = np.exp(scores[:, run.positive].astype(np.float64))
                curves.append(net_benefit(probabilities, sick, THRESHOLDS))
        if not curves:
            continue
        means = [estimate(values, confidence) for values in zip(*curves, strict=True)]
        rows.append(
            {
                "setting": setting,
                "method": method,
                "num_seeds": len(curves),
                "thresholds": list(THRESHOLDS),
                "net_benefit": [mean.mean for mean in means],
                "low": [mean.low for mean in means],
                "high": [mean.high for mean in means],
                "treat_all": np.mean(everybody, axis=0).tolist(),
            }
        )
    return rows


def net_benefit(
    probabilities: NDArray[np.floating], sick: NDArray[np.bool_], thresholds: Sequence[float]
) -> list[float]:
    """Return the net benefit per patient of treating from each threshold on.

    Args:
        probabilities: of the disease, (patient,).
        sick: who has it, (patient,).
        thresholds: above 0 and below 1.
    """
    treated = probabilities >= np.asarray(thresholds)[:, None]
    weight = np.asarray(thresholds) / (1 - np.asarray(thresholds))
    benefit: NDArray[np.float64] = (treated & sick).mean(1) - (treated & ~sick).mean(1) * weight
    return [float(value) for value in benefit]


def _groups(runs: Iterable[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """Return the runs that have predictions, by setting and method."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for run in runs:
        if run.predictions:
            groups.setdefault((run.setting, run.method), []).append(run)
    return groups
