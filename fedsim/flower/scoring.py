"""From the predictions of all sites to the rows of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clients.metrics import evaluate
from fedsim.data.source import POOLED
from fedsim.records.read import Predicted
from fedsim.scenario import Scenario

Predictions = Mapping[str, Mapping[str, Predicted]]
"""Split -> site (or external set) -> what the model says of its images."""


def score(scenario: Scenario, round: int, predictions: Predictions) -> list[dict[str, Any]]:
    """Return one row per split, group (pooled, then every site) and metric.

    Args:
        scenario: says which metrics, which task and which class is positive.
        round: after which the model was evaluated.
        predictions: in site order.
    """
    return [
        {
            "round": round,
            "split": split,
            "site": name,
            "metric": metric,
            "value": value.value,
            "num_examples": len(truth),
            "num_valid": value.num_valid,
        }
        for split, by_site in predictions.items()
        for name, (scores, truth) in {POOLED: pool(by_site), **by_site}.items()
        for metric, value in evaluate(
            scores,
            truth,
            scenario.evaluation.metrics,
            scenario.data.task,
            scenario.data.positive_class,
        ).items()
    ]


def pool(by_site: Mapping[str, Predicted]) -> Predicted:
    """Return the predictions of all sites as one."""
    scores, labels = zip(*by_site.values(), strict=True)
    return np.concatenate(scores), np.concatenate(labels)
