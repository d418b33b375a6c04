"""What a number of seeds can show, after correction.

Differences are taken for normal with the spread that a pilot or the study itself found, so that the
t statistic of n pairs has a noncentral t distribution with n - 1 degrees of freedom and
noncentrality difference / (sd / sqrt(n)). Of `num` comparisons each is tested at alpha / num, which
is the first and strictest step of Holm's procedure: a cautious view.

A spread from few pairs is itself uncertain. `spread_limit` is the upper end of its one-sided 80 %
interval, which gives the wanted power in four of five pilots (Browne, Statistics in Medicine 1995).

>>> seeds_needed(sd=0.02, difference=0.02, alpha=0.05, power=0.8)
10
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

POWER = 0.8
MOST_SEEDS = 1000
"""Where the search for seeds ends."""
LARGEST_SHIFT = 1e6
"""Noncentrality beyond which scipy knows no power; it is 1."""
LIMIT = 0.8
"""Confidence of the upper limit of a spread."""


def power_of(difference: float, sd: float, num_seeds: int, alpha: float) -> float:
    """Return the chance that the two-sided paired t test rejects.

    Args:
        difference: the true mean of the paired differences.
        sd: their true standard deviation, above 0.
        num_seeds: pairs, at least 2.
        alpha: level of this test.
    """
    from scipy.stats import nct, t

    freedom = num_seeds - 1
    shift = min(abs(difference) / sd * sqrt(num_seeds), LARGEST_SHIFT)
    critical = float(t.isf(alpha / 2, freedom))
    both = nct.sf(critical, freedom, [shift, -shift])  # cdf is nan for large shifts
    return float(both.sum())


def detectable_difference(
    sd: float, num_seeds: int, alpha: float, power: float = POWER
) -> float | None:
    """Return the smallest true difference that is shown with this power; None below two seeds."""
    from scipy.optimize import brentq

    if num_seeds < 2:
        return None
    if sd == 0:
        return 0.0
    most = 1.0
    while power_of(most, 1.0, num_seeds, alpha) < power:
        most *= 2
    root = brentq(lambda d: power_of(d, 1.0, num_seeds, alpha) - power, 0.0, most, xtol=1e-9)
    return sd * float(root)


def seeds_needed(sd: float, difference: float, alpha: float, power: float = POWER) -> int | None:
    """Return how many seeds show this difference with this power; None above `MOST_SEEDS`.

    Args:
        sd: standard deviation of the paired differences.
        difference: that is to be shown, above 0.
        alpha: level of the test.
        power: wanted.
    """
    if sd == 0:
        return 2

    def enough(num_seeds: int) -> bool:
        return power_of(difference, sd, num_seeds, alpha) >= power

    low, high = 2, MOST_SEEDS
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def spread_limit(sd: float, num_pairs: int) -> float:
    """Return the upper limit of a standard deviation that was found in so many pairs."""
    from scipy.stats import chi2

    freedom = num_pairs - 1
    return sd * sqrt(freedom / float(chi2.ppf(1 - LIMIT, freedom)))


def smallest_exact_p(num_seeds: int) -> float:
    """Return the smallest p that the two-sided sign-flip and signed-rank tests can give.

    >>> smallest_exact_p(5)
    0.0625
    """
    return float(2.0 ** (1 - num_seeds))


def seeds_for_exact_test(num_comparisons: int, alpha: float) -> int:
    """Return the fewest seeds with which an exact test can reject after Holm's correction.

    >>> seeds_for_exact_test(1, 0.05), seeds_for_exact_test(7, 0.05)
    (6, 9)
    """
    return ceil(1 - log2(alpha / num_comparisons) - 1e-12)


def power_table(
    differences: Mapping[tuple[str, str], NDArray[np.float64]],
    *,
    num_seeds: int,
    smallest_difference: float | None,
    alpha: float,
    power: float = POWER,
) -> dict[str, Any]:
    """Return what so many seeds can show, as plain data.

    Args:
        differences: (setting, method) -> paired differences to the reference, (pair,); one entry
            for each comparison that is planned, empty where nothing is known.
        num_seeds: of the study.
        smallest_difference: of interest, None without one.
        alpha: family-wise level.
        power: wanted.

    Returns:
        num_seeds, num_comparisons, alpha (of the family), power, exact_test_seeds (the fewest with
        which an exact test can reject) and rows {setting, method, num_pairs, sd, detectable,
        seeds_needed, cautious_seeds_needed}, the last from the limit of the spread.
    """
    each = alpha / max(len(differences), 1)
    return {
        "num_seeds": num_seeds,
        "num_comparisons": len(differences),
        "alpha": alpha,
        "power": power,
        "smallest_difference_of_interest": smallest_difference,
        "exact_test_seeds": seeds_for_exact_test(max(len(differences), 1), alpha),
        "rows": [
            {
                "setting": setting,
                "method": method,
                "num_pairs": len(found),
                **_row(found, num_seeds, smallest_difference, each, power),
            }
            for (setting, method), found in differences.items()
        ],
    }


def _row(
    found: NDArray[np.float64],
    num_seeds: int,
    difference: float | None,
    alpha: float,
    power: float,
) -> dict[str, Any]:
    if len(found) < 2:
        names = ("sd", "detectable", "seeds_needed", "cautious_seeds_needed")
        return dict.fromkeys(names)
    sd = float(found.std(ddof=1))
    limit = spread_limit(sd, len(found))
    return {
        "sd": sd,
        "detectable": detectable_difference(sd, num_seeds, alpha, power),
        "seeds_needed": seeds_needed(sd, difference, alpha, power) if difference else None,
        "cautious_seeds_needed": (
            seeds_needed(limit, difference, alpha, power) if difference else None
        ),
    }
