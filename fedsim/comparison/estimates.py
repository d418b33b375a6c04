"""A mean over seeds, and a share of them, with an interval.

The runs of one method differ by the seed alone, which decides initial weights, orders, cohorts and
where it is drawn the partition; their values are taken for independent draws from one normal
distribution. The interval is for the mean over seeds that were not run, on the same data.

>>> found = estimate([0.90, None, 0.94])
>>> found.num, round(found.mean, 2), round(found.low, 2), round(found.high, 2)
(2, 0.92, 0.67, 1.17)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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

    def row(self) -> dict[str, Any]:
        """Return it as plain data, as rows of comparison.json have it."""
        names = ("mean", "sd", "low", "high")
        return {"num_seeds": self.num, **{name: getattr(self, name) for name in names}}


def estimate(values: Iterable[float | None], confidence: float = CONFIDENCE) -> Estimate:
    """Return mean, standard deviation and Student's t interval of those values that are defined."""
    from scipy.stats import t

    found = np.array([value for value in values if value is not None], np.float64)
    if len(found) < 2:
        return Estimate(len(found), float(found[0]) if len(found) else None, None, None, None)
    mean, sd = float(found.mean()), float(found.std(ddof=1))
    half = float(t.ppf((1 + confidence) / 2, len(found) - 1)) * sd / len(found) ** 0.5
    return Estimate(len(found), mean, sd, mean - half, mean + half)


def whole_mean(values: Sequence[float | None]) -> float | None:
    """Return the unweighted mean; None if any value is, or there are none.

    >>> whole_mean([0.5, 1.0]), whole_mean([0.5, None])
    (0.75, None)
    """
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined and len(defined) == len(values) else None


def share_interval(share: float, num: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson, JASA 1927, eq. 1).

    For a mean of values between 0 and 1 that are not all 0 or 1 it is too wide, never too narrow:
    of all with that mean, those vary most that are.

    Args:
        share: from 0 to 1.
        num: of independent observations, at least one.
        confidence: probability between the ends.

    >>> [round(end, 3) for end in share_interval(0.0, 10)]
    [0.0, 0.278]
    """
    from scipy.stats import norm

    z2 = float(norm.isf((1 - confidence) / 2)) ** 2 / num
    middle = (share + z2 / 2) / (1 + z2)
    half = (z2 * (share * (1 - share) + z2 / 4)) ** 0.5 / (1 + z2)
    return max(middle - half, 0.0), min(middle + half, 1.0)
