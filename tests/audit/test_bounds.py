"""Bounds are never wrong more often than they say, and as sharp as others' at the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from fedsim.audit.bounds import (
    area_under_curve,
    clopper_pearson,
    one_run_ceiling,
    one_run_epsilon,
    p_value,
    separation,
)


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 11), (40, 40), (190, 1000)])
def test_a_proportion_has_the_interval_of_clopper_and_pearson(successes: int, trials: int) -> None:
    found = clopper_pearson(successes, trials, 0.05)
    known = binomtest(successes, trials).proportion_ci(0.95, "exact")
    assert found.value == successes / trials
    assert (found.low, found.high) == pytest.approx((known.low, known.high))


@pytest.mark.parametrize(("num", "ceiling"), [(100, 3.49), (500, 5.10), (1000, 5.78), (5000, 7.28)])
def test_one_run_shows_no_more_than_others_found(num: int, ceiling: float) -> None:
    assert one_run_ceiling(num, 1e-5, 0.05) == pytest.approx(ceiling, abs=0.006)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_one_run_is_wrong_as_seldom_as_it_says(epsilon: float) -> None:
    """Randomised response lets every guess be right with e^epsilon / (1 + e^epsilon), no less."""
    draws = np.random.default_rng(1)
    chance = math.exp(epsilon) / (1 + math.exp(epsilon))
    correct, counts = np.unique(draws.binomial(200, chance, 400), return_counts=True)
    bounds = np.repeat([one_run_epsilon(int(v), 200, 200, 0.0, 0.1) for v in correct], counts)
    share = np.mean(bounds > epsilon)
    assert 0.03 < share < 0.1 + 3 * math.sqrt(0.1 * 0.9 / 400)
    assert np.median(bounds) > 0.5 * epsilon


def test_delta_excuses_what_it_may_have_caused() -> None:
    """With delta, each canary may be given away outright with that probability."""
    without = one_run_epsilon(180, 200, 200, 0.0, 0.05)
    assert one_run_epsilon(180, 200, 200, 1e-3, 0.05) < without
    brute = max(
        (p_exact(180, 1) - p_exact(180 - i, 1)) * -1 / i for i in range(1, 201) if 180 - i >= -1
    )
    expected = p_exact(180, 1) + 2 * 200 * 1e-3 * brute
    assert p_value(1.0, 180, 200, 200, 1e-3) == pytest.approx(min(1.0, expected), rel=1e-6)


def p_exact(at_least: int, epsilon: float) -> float:
    """Return P[Bin(200, p) >= at_least], summed term by term."""
    p = math.exp(epsilon) / (1 + math.exp(epsilon))
    return math.fsum(
        math.comb(200, k) * p**k * (1 - p) ** (200 - k) for k in range(max(0, at_least), 201)
    )


def test_two_gaussians_are_as_far_apart_as_they_are() -> None:
    draws, mu, num = np.random.default_rng(2), 1.5, 500
    missed = 0
    for _ in range(300):
        hits = int((draws.normal(mu, 1, num) > 0.6).sum())
        false = int((draws.normal(0, 1, num) > 0.6).sum())
        found = separation(hits, num, false, num, 0.1)
        missed += not found.low <= mu <= found.high
    assert missed / 300 < 0.1 + 3 * math.sqrt(0.1 * 0.9 / 300)
    assert found.value == pytest.approx(mu, abs=0.3)
    known = norm.ppf(hits / num) - norm.ppf(false / num)
    assert found.value == pytest.approx(known, abs=0.02)


def test_areas_under_curves_are_those_of_others_and_their_intervals_hold() -> None:
    draws = np.random.default_rng(3)
    true, missed = norm.cdf(0.7 / math.sqrt(2)), 0
    for _ in range(300):
        members, others = draws.normal(0.7, 1, 80), draws.normal(0, 1, 60)
        found = area_under_curve(members, others, 0.1)
        missed += not found.low <= true <= found.high
    assert found.value == pytest.approx(roc_auc_score([1] * 80 + [0] * 60, [*members, *others]))
    assert 0.04 < missed / 300 < 0.17
    tied = area_under_curve(np.array([1.0, 1.0]), np.array([1.0, 0.0]), 0.1)
    assert tied.value == 0.75
