"""From the predictions of all sites to the rows of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.metrics import evaluate
from fedsim.records.read import POOLED
from fedsim.scenario import Scenario

Predictions = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Log-probabilities, (example, class), and labels, (example,)."""


def score(
    scenario: Scenario, round: int, predictions: Mapping[str, Mapping[str, Predictions]]
) -> list[dict[str, Any]]:
    """Return one row per split, group (pooled, then every site) and metric.

    Args:
        scenario: says which metrics, which task and which class is positive.
        round: after which the model was evaluated.
        predictions: site -> split -> predictions, in site order.
    """
    rows = []
    for split in next(iter(predictions.values())):
        by_site = {name: splits[split] for name, splits in predictions.items()}
        log_probabilities, labels = (
            np.concatenate(parts) for parts in zip(*by_site.values(), strict=True)
        )
        groups = {POOLED: (log_probabilities, labels), **by_site}
        for name, (scores, truth) in groups.items():
            values = evaluate(
                scores,
                truth,
                scenario.evaluation.metrics,
                scenario.data.task,
                scenario.data.positive_class,
            )
            rows += [
                {
                    "round": round,
                    "split": split,
                    "site": name,
                    "metric": metric,
                    "value": value.value,
                    "num_examples": len(truth),
                    "num_valid": value.num_valid,
                }
                for metric, value in values.items()
            ]
    return rows
