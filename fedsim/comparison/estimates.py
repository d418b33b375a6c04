"""A mean over seeds, and a share of them, with an interval.

The runs of one method differ by the seed alone, which decides initial weights, orders, cohorts and
where it is drawn the partition; their values are taken for independent draws from one normal
distribution. The interval is for the mean over seeds that were not run, on the same data.

>>> found = estimate([0.90, None, 0.94])
>>> found.num, round(found.mean, 2), round(found.low, 2), round(found.high, 2)
(2, 0.92, 0.67, 1.17)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Args:
        num: values that it rests on.
        mean: None without any.
        sd: their sample standard deviation, None below two.
        low: lower end of the interval, None below two.
        high: its upper end.
    """

    num: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None


def estimate(values: Iterable[float | None], confidence: float = CONFIDENCE) -> Estimate:
    """Return mean, standard deviation and Student's t interval of those values that are defined."""
    from scipy.stats import t

    found = np.array([value for value in values if value is not None], np.float64)
    if len(found) < 2:
        return Estimate(len(found), float(found[0]) if len(found) else None, None, None, None)
    mean, sd = float(found.mean()), float(found.std(ddof=1))
    half = float(t.ppf((1 + confidence) / 2, len(found) - 1)) * sd / len(found) ** 0.5
    return Estimate(len(found), mean, sd, mean - half, mean + half)


def share_interval(
    count: int, num: int, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Return Wilson's score interval of a share (Wilson, JASA 1927); none of nothing.

    >>> [round(end, 3) for end in share_interval(0, 10)]
    [0.0, 0.278]
    """
    from scipy.stats import binomtest

    if not num:
        return None, None
    interval = binomtest(count, num).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
