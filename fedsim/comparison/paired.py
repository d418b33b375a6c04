"""Two methods, seed by seed: is their mean difference zero?

A method and its reference with the same seed share initial weights, sites and test images, so what
is looked at is the difference of each pair. Tested by the paired t test. On simulated studies of
ten seeds and Holm's correction (docs/statistics.md) it kept the family-wise error of normal,
heavy-tailed and outlier-ridden values at or below 5 %, and showed more true differences than the
exact sign-flip test or the signed-rank test, whose smallest p with n pairs is 2^(1 - n).

The exact sign-flip test stands beside it as a check. It assumes no more than that the two methods
could change places within a seed: the p-value is the share of all 2^n sign patterns of the
differences whose sum is at least as far from zero (Fisher, The Design of Experiments, 1935, section
21).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsim.comparison.estimates import estimate

Values = NDArray[np.float64]
MOST_EXACT = 20
"""Pairs up to which all sign patterns are gone through: a million of them."""


@dataclass(frozen=True)
class Paired:
    """What paired differences say.

    Args:
        num_pairs: seeds in which both methods have a value.
        mean: of the differences; None without any.
        sd: their sample standard deviation; None below two.
        low: lower end of the interval of the mean; None below two.
        high: its upper end.
        p: of the paired t test; None below two pairs.
        p_exact: of the exact sign-flip test; None below two pairs and above `MOST_EXACT`.
        wins: seeds in which the method is better than the reference.
        ties: seeds in which they are closer than what counts as a difference.
        losses: seeds in which it is worse.
    """

    num_pairs: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    p: float | None
    p_exact: float | None
    wins: int
    ties: int
    losses: int


def compare_pairs(
    differences: Values, *, higher_is_better: bool, tie_below: float, confidence: float
) -> Paired:
    """Return what differences to a reference say.

    Args:
        differences: method minus reference, (pair,).
        higher_is_better: which of them are wins.
        tie_below: absolute differences below this are ties.
        confidence: of the interval.
    """
    found = estimate(differences.tolist(), confidence)
    gains = differences if higher_is_better else -differences
    tied = np.abs(differences) < tie_below
    return Paired(
        found.num,
        found.mean,
        found.sd,
        found.low,
        found.high,
        t_test(differences),
        sign_flip_test(differences),
        wins=int((gains[~tied] > 0).sum()),
        ties=int(tied.sum()),
        losses=int((gains[~tied] < 0).sum()),
    )


def t_test(differences: Values) -> float | None:
    """Return the two-sided p-value of a mean of zero; 1 or 0 where all differences are equal."""
    from scipy.stats import ttest_1samp

    if len(differences) < 2:
        return None
    if np.ptp(differences) == 0:
        return float(differences[0] == 0)
    return float(ttest_1samp(differences, 0).pvalue)


def sign_flip_test(differences: Values) -> float | None:
    """Return the two-sided p-value of the exact sign-flip test of the mean."""
    if not 2 <= len(differences) <= MOST_EXACT:
        return None
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums - difference, sums + difference])
    rounding = 1e-12 * np.abs(differences).sum()
    return float(np.mean(np.abs(sums) >= abs(differences.sum()) - rounding))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for how many there are (Holm, Scand. J. Statist. 1979).

    Rejecting those at or below alpha keeps the chance of any false rejection at or below alpha,
    however they depend on each other. A comparison without a p-value (no pairs) counts as one.

    >>> holm([0.01, 0.04, 0.03, None])
    [0.04, 0.09, 0.09, None]
    """
    filled = np.array([1.0 if p is None else p for p in p_values])
    order = np.argsort(filled, kind="stable")
    steps = filled[order] * np.arange(len(filled), 0, -1)
    adjusted = np.empty_like(filled)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [None if p is None else float(a) for p, a in zip(p_values, adjusted, strict=True)]
