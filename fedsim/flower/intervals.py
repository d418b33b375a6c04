"""Bootstrap intervals of the test results, over images or, where they are known, over patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from clients.bootstrap import intervals
from fedsim.data.population import Population
from fedsim.data.source import POOLED, SPLITS, Texts
from fedsim.flower.scoring import Predictions, pool
from fedsim.scenario import Scenario
from fedsim.seeds import Streams

CONFIDENCE = 0.95


def rows(
    scenario: Scenario, population: Population, methods: Mapping[tuple[str, str], Predictions]
) -> list[dict[str, Any]]:
    """Return the rows of `intervals.jsonl`.

    Of the test images of all sites together for every metric; of each site's for the selecting one
    and the final model alone, for there may be many sites. Every method draws the same resamples,
    so that intervals are alike where methods are.

    Args:
        scenario: says how many resamples and which metrics.
        population: knows the patients.
        methods: (method, model) -> predictions.
    """
    if not scenario.evaluation.num_resamples:
        return []
    known = {s: _patients(population, s) for s in ("test", "external")}
    return [
        {"method": method, "model": model, **row}
        for (method, model), predictions in methods.items()
        for split, patients in known.items()
        for row in _split(scenario, predictions, split, patients, sites=model == "final")
    ]


def _split(
    scenario: Scenario,
    predictions: Predictions,
    split: str,
    patients: Mapping[str, Texts | None],
    sites: bool,
) -> Iterator[dict[str, Any]]:
    by_site = predictions.get(split, {})
    if not by_site:
        return
    evaluation, data, streams = scenario.evaluation, scenario.data, Streams(scenario.seed)
    ids = [patients[name] for name in by_site]
    known = [i for i in ids if i is not None]
    everybody = np.concatenate(known) if len(known) == len(ids) else None
    groups = {POOLED: (pool(by_site), everybody, evaluation.metrics)}
    for name, predicted in by_site.items() if sites else ():
        groups[name] = predicted, patients[name], (evaluation.select_by,)
    for number, (name, ((scores, labels), whose, metrics)) in enumerate(groups.items()):
        found = intervals(
            scores,
            labels,
            metrics,
            data.task,
            data.positive_class,
            rng=streams.numpy(f"bootstrap_{split}", group=number),
            num_resamples=evaluation.num_resamples,
            confidence=CONFIDENCE,
            patients=whose,
        )
        for metric, interval in found.items():
            yield {
                "split": split,
                "site": name,
                "metric": metric,
                "low": interval.low,
                "high": interval.high,
                "confidence": CONFIDENCE,
                "num_resamples": interval.num_resamples,
                "unit": "image" if whose is None else "patient",
            }


def _patients(population: Population, split: str) -> dict[str, Texts | None]:
    if split == "external":
        return {part.name: part.patients for part in population.external}
    (own,) = (s for s in SPLITS if s == split)
    return {
        population.name(holder): population.patients(holder, own) for holder in population.holders
    }
