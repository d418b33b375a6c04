"""How far a mean over seeds would move with other seeds and other test images.

What is resampled, for each setting on its own:

- seeds, with replacement, the same for all methods;
- test images (patients with all of their images where it is known whose they are), with
  replacement, independently of the seeds. The draw is over all images that any seed tests on, and
  each seed counts those of its own test set as often as they were drawn. So an image that several
  seeds test on comes and goes in all of them together, for every method: the pigeonhole bootstrap
  (Owen, Annals of Applied Statistics 2007), whose variance is too large rather than too small.
  Where it was not recorded which images they are, those of two seeds count as different ones.

Models are taken as they are. Percentile intervals over n seeds are too narrow by the bootstrap's
factor sqrt((n - 1) / n) and by the normal in place of Student's distribution; their percentiles are
therefore moved outwards (the expanded percentile interval of Hesterberg, The American Statistician
2015, section 4.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.counted import counted_values
from fedsim.comparison.outcomes import Outcome, Primary, common_sites
from fedsim.records.read import Predicted
from fedsim.seeds import Streams

NUM_RESAMPLES = 1000
LEAST_DETERMINED = 0.5
"""Share of resamples that must determine a value for it to have an interval."""


@dataclass(frozen=True)
class Resamples:
    """How often each seed and each unit is in each resample.

    Args:
        seeds: (resample, seed).
        units: (resample, unit).
    """

    seeds: NDArray[np.int64]
    units: NDArray[np.int64]

    @staticmethod
    def draw(
        num_seeds: int, num_units: int, num_resamples: int, rng: np.random.Generator
    ) -> Resamples:
        """Draw seeds and units with replacement, independently of each other."""
        return Resamples(
            rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), num_resamples),
            rng.multinomial(num_units, np.full(num_units, 1 / num_units), num_resamples),
        )


def over_seeds(values: NDArray[np.float64], seeds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean over the seeds of each resample, (resample,).

    Seeds without a run (all nan) are left out of every mean; a mean that a drawn seed leaves
    undetermined, or that has no seed at all, is nan.

    Args:
        values: (seed, resample).
        seeds: how often each seed was drawn, (resample, seed).
    """
    there = ~np.isnan(values).all(axis=1)
    weights = seeds.T[there]
    with np.errstate(invalid="ignore"):
        total = np.where(weights > 0, weights * values[there], 0.0).sum(axis=0)
        mean: NDArray[np.float64] = total / weights.sum(axis=0)
    return mean


def expanded_interval(
    resampled: NDArray[np.float64], num_seeds: int, confidence: float
) -> tuple[float | None, float | None]:
    """Return the expanded percentile interval; none if too few resamples determine the value.

    Args:
        resampled: values, (resample,), nan where undetermined.
        num_seeds: that were resampled; of one alone the plain percentiles are returned.
        confidence: probability between the ends.
    """
    from scipy.stats import norm, t

    found = resampled[~np.isnan(resampled)]
    if len(found) < max(LEAST_DETERMINED * len(resampled), 1):
        return None, None
    tail = (1 - confidence) / 2
    if num_seeds > 1:
        wide = (num_seeds / (num_seeds - 1)) ** 0.5 * t.isf(tail, num_seeds - 1)
        tail = float(norm.sf(wide))
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def primary_intervals(
    runs: Sequence[Outcome],
    primary: Primary,
    setting: str,
    methods: Sequence[str],
    num_resamples: int = NUM_RESAMPLES,
) -> list[dict[str, Any]]:
    """Return the bootstrap interval of each method and of its difference to the reference.

    Args:
        runs: of one setting.
        primary: what is compared.
        setting: its name.
        methods: names, in the order of the rows.
        num_resamples: how many.
    """
    seeds = sorted({run.seed for run in runs})
    if not seeds:
        return []
    unit, num_units, codes = _codes(runs, seeds)
    rng = Streams(0).numpy(f"comparison bootstrap {setting}")
    draws = Resamples.draw(len(seeds), num_units, num_resamples, rng)
    sites = {seed: common_sites([run for run in runs if run.seed == seed]) for seed in seeds}
    resampled = {name: np.full((len(seeds), num_resamples), np.nan) for name in methods}
    for run, own in zip(runs, codes, strict=True):
        number = seeds.index(run.seed)
        drawn = draws.seeds[:, number] > 0
        groups = [tuple(own)] if primary.pooled else [(site,) for site in sites[run.seed]]
        resampled[run.method][number, drawn] = _values(
            run, primary.metric, groups, own, draws.units[drawn]
        )
    reference = resampled[primary.reference]
    return [
        _row(setting, name, values, reference, draws.seeds, primary.confidence, unit)
        for name, values in resampled.items()
    ]


def _row(
    setting: str,
    method: str,
    values: NDArray[np.float64],
    reference: NDArray[np.float64],
    seeds: NDArray[np.int64],
    confidence: float,
    unit: str,
) -> dict[str, Any]:
    num_seeds = int((~np.isnan(values).all(axis=1)).sum())
    pairs = values - reference
    num_pairs = int((~np.isnan(pairs).all(axis=1)).sum())
    means = over_seeds(values, seeds)
    low, high = expanded_interval(means, num_seeds, confidence)
    below, above = expanded_interval(over_seeds(pairs, seeds), num_pairs, confidence)
    return {
        "setting": setting,
        "method": method,
        "low": low,
        "high": high,
        "difference_low": below,
        "difference_high": above,
        "num_seeds": num_seeds,
        "num_resamples": int((~np.isnan(means)).sum()),
        "unit": unit,
    }


def _codes(
    runs: Sequence[Outcome], seeds: Sequence[int]
) -> tuple[str, int, list[dict[str, NDArray[np.int64]]]]:
    """Return what is drawn, how many there are, and for each run and site each image's number.

    Numbers go from 0 without gaps. Where a run did not record its units, the images of a seed are
    told apart by their place, and those of two seeds are different ones.
    """
    known = all(run.units for run in runs)
    most = max(sum(len(labels) for _, labels in run.predictions.values()) for run in runs)
    raw = [
        dict(run.units) if known else _by_place(run.predictions, most * seeds.index(run.seed))
        for run in runs
    ]
    every = [numbers for own in raw for numbers in own.values()]
    units = np.unique(np.concatenate(every)) if every else np.zeros(1, np.int64)
    coded = [
        {site: np.searchsorted(units, own[site]) for site in run.predictions}
        for run, own in zip(runs, raw, strict=True)
    ]
    return (runs[0].unit if known else "image"), len(units), coded


def _by_place(predictions: Mapping[str, Predicted], begin: int) -> dict[str, NDArray[np.int64]]:
    sizes = [len(labels) for _, labels in predictions.values()]
    ends = begin + np.cumsum([0, *sizes])
    return {
        site: np.arange(start, end)
        for site, start, end in zip(predictions, ends[:-1], ends[1:], strict=True)
    }


def _values(
    run: Outcome,
    metric: str,
    groups: Sequence[Sequence[str]],
    codes: Mapping[str, NDArray[np.int64]],
    units: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the mean over groups of sites of one run's metric in each resample, (resample,)."""
    if not groups or not codes:
        return np.full(len(units), np.nan)
    found = [
        counted_values(
            *together([run.predictions[site] for site in group]),
            units[:, np.concatenate([codes[site] for site in group])],
            metric,
            run.task,
            run.positive,
        )
        for group in groups
    ]
    mean: NDArray[np.float64] = np.mean(found, axis=0)
    return mean


def together(parts: Sequence[Predicted]) -> Predicted:
    """Return the predictions of some sites as one."""
    scores, labels = zip(*parts, strict=True)
    return np.concatenate(scores), np.concatenate(labels)
