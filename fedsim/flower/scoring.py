"""From the predictions of all sites to the rows of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.metrics import Value, evaluate
from fedsim.data.aggregates import Aggregates, is_known
from fedsim.data.source import POOLED
from fedsim.records.read import Predicted
from fedsim.scenario import Scenario
from fedsim.scenario.supervision_rules import BAG_LOSS

Predictions = Mapping[str, Mapping[str, Predicted]]
"""Split -> site (or external set) -> what the model says of its images."""
SMALLEST = np.log(np.finfo(np.float32).tiny)
"""Logarithm below which the mean probability of a bag is not taken: a loss stays finite."""


def score(
    scenario: Scenario,
    round: int,
    predictions: Predictions,
    bags: Mapping[str, Mapping[str, Aggregates]] | None = None,
) -> list[dict[str, Any]]:
    """Return one row per split, group (pooled, then every site) and metric.

    Args:
        scenario: says which metrics, which task and which class is positive.
        round: after which the model was evaluated.
        predictions: in site order; labels that a site does not know are negative, numbers nan.
        bags: split -> site -> what it knows of its labels instead.
    """
    names = scenario.evaluation.metrics
    rows = []
    for split, by_site in predictions.items():
        known = (bags or {}).get(split, {})
        sites = {
            name: values(scenario, names, *predicted, known.get(name))
            for name, predicted in by_site.items()
        }
        everybody = pool(by_site)
        together = values(scenario, names, *everybody)
        if BAG_LOSS in together and known:
            together[BAG_LOSS] = _mean(found[BAG_LOSS] for found in sites.values())
        images = {POOLED: everybody, **by_site}
        rows += [
            {
                "round": round,
                "split": split,
                "site": name,
                "metric": metric,
                "value": value.value,
                "num_examples": len(images[name][1]),
                "num_valid": value.num_valid,
            }
            for name, found in {POOLED: together, **sites}.items()
            for metric, value in found.items()
        ]
    return rows


def values(
    scenario: Scenario,
    names: Iterable[str],
    scores: NDArray[np.float32],
    labels: NDArray[Any],
    bags: Aggregates | None = None,
) -> dict[str, Value]:
    """Return metrics of some images, from those whose labels are known; the bag loss from bags.

    Args:
        scenario: says which task and which class is positive.
        names: of the metrics.
        scores: log-probabilities, (example, class); of a regression, numbers, (example, 1).
        labels: (example,), classes, negative where not known; or numbers, nan where not known.
        bags: what is known in their stead, if anything.
    """
    told = is_known(labels)
    found = evaluate(
        scores[told],
        labels[told],
        names,
        scenario.data.task,
        scenario.data.positive_class,
    )
    if BAG_LOSS in found and bags is not None and len(bags.responses):
        loss = bag_loss(scores, bags)
        found[BAG_LOSS] = Value(loss, len(labels)) if np.isfinite(loss) else Value(None, 0)
    return found


def bag_loss(scores: NDArray[np.float32], bags: Aggregates) -> float:
    """Return how far bags' mean predictions are from their responses, weighted by examples.

    Of classes the cross-entropy, -1/n sum_a k_a sum_c pi_ac log(mean over bag a of p_ic); of
    numbers the squared error, 1/n sum_a k_a (pi_a - mean over bag a of f_i)^2, in their unit,
    squared. Of bags of one, the usual loss.

    Args:
        scores: log p, (example, class), or numbers, (example, 1).
        bags: pi, and which examples lie in which.
    """
    said = scores.astype(np.float64)
    means = np.zeros(bags.responses.shape)
    np.add.at(means, bags.of_example, said if bags.of_numbers else np.exp(said))
    means /= bags.sizes[:, None]
    if bags.of_numbers:
        losses = np.square(bags.responses - means)[:, 0]
    else:
        logs = np.maximum(np.log(np.maximum(means, 0)), SMALLEST)
        losses = -(bags.responses * logs).sum(axis=1)
    return float(losses @ bags.sizes / bags.sizes.sum())


def revealed(predictions: Predictions, truth: Mapping[str, NDArray[Any]]) -> Predictions:
    """Return predictions with the labels of test images that their sites do not know.

    Args:
        predictions: of sites.
        truth: site -> labels of its test images, for sites that do not know them.
    """
    if not truth:
        return predictions
    test = {
        name: (scores, truth.get(name, labels))
        for name, (scores, labels) in predictions["test"].items()
    }
    return {**predictions, "test": test}


def pool(by_site: Mapping[str, Predicted]) -> Predicted:
    """Return the predictions of all sites as one."""
    scores, labels = zip(*by_site.values(), strict=True)
    return np.concatenate(scores), np.concatenate(labels)


def _mean(values: Iterable[Value]) -> Value:
    """Return the mean of the values that there are, by examples."""
    known = [(value.value, value.num_valid) for value in values if value.value is not None]
    total = sum(num for _, num in known)
    return Value(sum(v * num for v, num in known) / total if total else None, total)
