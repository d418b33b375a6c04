"""How far a mean over seeds would move with other seeds and other test images.

For each setting two things are resampled, independently of each other and alike for all methods:

- test images, or patients with all of their images where it is known whose they are. Each counts
  Poisson(1) times, in every seed that tests on it and for every method, so that a hard image comes
  and goes in all of them together (the pigeonhole bootstrap of Owen, Annals of Applied Statistics
  2007). That alone would count chance twice where seeds have test images of their own, as these are
  in the spread of the seeds too: of an image that k of n seeds test on, the share (n - k) / (k (n -
  1)) of its part in the variance. With that probability it is therefore left as it is, always where
  one seed has it and never where all have. (This correction is our own; tests hold its coverage.)
  Where it was not recorded which images they are, those of two seeds count as different ones.
- seeds, with replacement. The deviations of their means are stretched by sqrt(n / (n - 1)) t / z,
  as few seeds vary too little under the bootstrap and its percentiles are a normal's, not
  Student's (Hesterberg, The American Statistician 2015).

Intervals are percentiles. Models are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
LEAST_DETERMINED = 0.5
"""Share of resamples that must determine a value for it to have an interval."""


def left_rate(units: Iterable[Ints], num_units: int) -> Floats:
    """Return with which probability a resample leaves each unit as it is, (unit,).

    Args:
        units: of each seed: numbers of those it tests on, each maybe several times.
        num_units: over all seeds, every one of them with at least one.
    """
    by_seed = [np.unique(own) for own in units]
    num, having = len(by_seed), np.bincount(np.concatenate(by_seed), minlength=num_units)
    rate: Floats = (num - having) / (having * max(num - 1, 1))
    return rate


def draw_units(left: Floats, num_resamples: int, rng: np.random.Generator) -> Ints:
    """Return how often each unit is in each resample, (resample, unit).

    Args:
        left: of `left_rate`.
        num_resamples: how many.
        rng: draws them.
    """
    shape = num_resamples, len(left)
    return np.where(rng.random(shape) < left, 1, rng.poisson(1, shape))


def over_seeds(values: Floats, confidence: float, rng: np.random.Generator) -> Floats:
    """Return the mean over resampled seeds, (resample,); nan where a seed's value is.

    Args:
        values: of each seed in each resample of the images, (seed, resample).
        confidence: of the interval that will be read from the means.
        rng: draws the seeds.
    """
    from scipy.stats import norm, t

    num, num_resamples = values.shape
    if num < 2:
        return values.mean(axis=0) if num else np.full(num_resamples, np.nan)
    tail = (1 - confidence) / 2
    stretch = float((num / (num - 1)) ** 0.5 * t.isf(tail, num - 1) / norm.isf(tail))
    counts = rng.multinomial(num, np.full(num, 1 / num), num_resamples).T
    mean: Floats = ((1 + stretch * (counts - 1)) * values).mean(axis=0)
    return mean


def percentiles(resampled: Floats, confidence: float) -> tuple[float | None, float | None]:
    """Return a percentile interval; none if too few resamples determine the value."""
    found = resampled[~np.isnan(resampled)]
    if len(found) < max(LEAST_DETERMINED * len(resampled), 1):
        return None, None
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
