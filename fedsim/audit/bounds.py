"""From how often attacks succeed to what they prove, with confidence.

Nothing here knows of training: counts go in, bounds come out.

>>> round(one_run_ceiling(1000, delta=1e-5, error=0.05), 2)
5.78
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom, chi2, norm

LARGEST_EPSILON = 40.0


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval.

    Args:
        value: the estimate.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


def clopper_pearson(successes: int, trials: int, error: float) -> Interval:
    """Return a proportion with an interval that misses it with probability `error` at most."""
    low, high = 0.0, 1.0
    if successes > 0:
        low = float(beta.ppf(error / 2, successes, trials - successes + 1))
    if successes < trials:
        high = float(beta.ppf(1 - error / 2, successes + 1, trials - successes))
    return Interval(successes / trials, low, high)


def standard_deviation(values: NDArray[np.float64], error: float) -> Interval:
    """Return that of Gaussian numbers with mean zero, all alike and independent.

    Args:
        values: of any shape.
        error: with which the interval misses.
    """
    squares = float(np.square(values).sum())
    low, high = (math.sqrt(squares / chi2.ppf(p, values.size)) for p in (1 - error / 2, error / 2))
    return Interval(math.sqrt(squares / values.size), low, high)


def separation(hits: int, present: int, false_alarms: int, absent: int, error: float) -> Interval:
    """Return by how many standard deviations a test with a fixed threshold tells two cases apart.

    A release that is mu-GDP allows no test Phi^-1(TPR) - Phi^-1(FPR) > mu (Dong, Roth and Su 2022,
    definition 3), whatever it releases; a Gaussian reaches mu with every threshold. The ends come
    from Clopper-Pearson intervals of both rates at half the error each.

    Args:
        hits: trials with the unit that were taken for such.
        present: trials with it.
        false_alarms: trials without the unit that were taken for such with it.
        absent: trials without it.
        error: with which the interval misses.
    """
    true = clopper_pearson(hits, present, error / 2)
    false = clopper_pearson(false_alarms, absent, error / 2)
    return Interval(
        float(
            norm.ppf((hits + 0.5) / (present + 1)) - norm.ppf((false_alarms + 0.5) / (absent + 1))
        ),
        float(norm.ppf(true.low) - norm.ppf(false.high)),
        float(norm.ppf(true.high) - norm.ppf(false.low)),
    )


def one_run_epsilon(correct: int, guesses: int, canaries: int, delta: float, error: float) -> float:
    """Return the epsilon that guesses in a single run refute everything below of.

    Every canary is included by a fair coin, of all of them `guesses` are guessed, and a mechanism
    that is (epsilon, delta)-private lets so many guesses be right with a probability of `p_value`
    at most. Source: Steinke, Nasr and Jagielski, NeurIPS 2023, theorem 5.2.

    Args:
        correct: guesses that were right.
        guesses: how many were made; their number must not depend on the coins.
        canaries: included or not.
        delta: of the claim.
        error: probability with which the bound may be too high.
    """
    if p_value(0.0, correct, guesses, canaries, delta) > error:
        return 0.0
    if p_value(LARGEST_EPSILON, correct, guesses, canaries, delta) <= error:
        return LARGEST_EPSILON
    return float(
        brentq(
            lambda epsilon: p_value(epsilon, correct, guesses, canaries, delta) - error,
            0.0,
            LARGEST_EPSILON,
            xtol=1e-6,
        )
    )


def p_value(epsilon: float, correct: int, guesses: int, canaries: int, delta: float) -> float:
    """Return the largest probability of so many right guesses if (epsilon, delta) were true."""
    chance = 1 / (1 + math.exp(-epsilon))
    at_least = float(binom.sf(correct - 1, guesses, chance))
    below = np.arange(1, correct + 1)
    # P[correct > Bin >= correct - i] for i = 1, 2, ...
    some = binom.cdf(correct - 1, guesses, chance) - binom.cdf(correct - 1 - below, guesses, chance)
    worst = float((some / below).max()) if correct else 0.0
    return min(1.0, at_least + 2 * canaries * delta * worst)


def one_run_ceiling(canaries: int, delta: float, error: float) -> float:
    """Return what a single run shows if every guess is right."""
    return one_run_epsilon(canaries, canaries, canaries, delta, error)


def area_under_curve(
    members: NDArray[np.float64], others: NDArray[np.float64], error: float
) -> Interval:
    """Return the probability that a member scores above another, ties half, with its interval.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 1988, for the variance.

    Args:
        members: scores, (member,).
        others: scores, (other,).
        error: with which the interval misses, nearly.
    """
    above = _share_below(members, others)
    below = 1 - _share_below(others, members)
    area = float(above.mean())
    variance = above.var(ddof=1) / len(members) + below.var(ddof=1) / len(others)
    half = float(norm.ppf(1 - error / 2) * math.sqrt(variance))
    return Interval(area, max(0.0, area - half), min(1.0, area + half))


def _share_below(values: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which share of `among` is below each value, ties half."""
    ordered = np.sort(among)
    left, right = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return (left + right) / (2 * len(among))
