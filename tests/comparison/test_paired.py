"""The paired tests agree with scipy and keep their level on simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fedsim.comparison.estimates import estimate, share_interval
from fedsim.comparison.paired import compare_pairs, holm, sign_flip_test, t_test

ALPHA = 0.05


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_the_t_interval_is_scipys(rng: np.random.Generator) -> None:
    values = rng.normal(0.9, 0.02, 7)
    found = estimate([*values, None])
    low, high = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    assert (found.num, found.mean) == (7, pytest.approx(values.mean()))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_one_value_has_a_mean_and_no_spread_and_none_has_nothing() -> None:
    one, none = estimate([0.5, None]), estimate([None])
    assert (one.num, one.mean, one.sd, one.low, one.high) == (1, 0.5, None, None, None)
    assert (none.num, none.mean) == (0, None)


@pytest.mark.parametrize(("count", "num"), [(0, 4), (1, 4), (3, 10), (10, 10)])
def test_the_interval_of_a_share_is_scipys(count: int, num: int) -> None:
    expected = stats.binomtest(count, num).proportion_ci(0.95, method="wilson")
    assert share_interval(count / num, num) == pytest.approx((expected.low, expected.high))


def test_the_t_test_is_scipys(rng: np.random.Generator) -> None:
    ours, theirs = rng.normal(0, 1, (2, 9))
    assert t_test(ours - theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


@pytest.mark.parametrize("num", [2, 5, 8])
def test_the_exact_test_is_scipys(num: int, rng: np.random.Generator) -> None:
    differences = rng.normal(0.3, 1, num)
    expected = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_test(differences) == pytest.approx(expected.pvalue)


def test_the_exact_test_counts_equal_sums_despite_rounding() -> None:
    assert sign_flip_test(np.array([0.1, 0.2, 0.3])) == pytest.approx(2 / 8)
    assert sign_flip_test(np.array([0.1, 0.2, -0.3])) == 1


def test_the_exact_test_is_left_to_others_where_it_has_too_many_patterns() -> None:
    assert sign_flip_test(np.ones(21)) is None
    assert sign_flip_test(np.ones(1)) is None


def test_equal_differences_are_no_spread() -> None:
    assert t_test(np.zeros(4)) == 1
    assert t_test(np.full(4, 0.25)) == 0
    assert t_test(np.zeros(1)) is None


def test_holm_by_hand() -> None:
    # sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5: 0.04, 0.06, 0.06 (not 0.06 < 0.06), 0.5
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])


def test_holm_counts_a_comparison_without_pairs() -> None:
    assert holm([0.02, None]) == [pytest.approx(0.04), None]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_wins_ties_and_losses_by_hand() -> None:
    differences = np.array([0.01, 0.0004, -0.0004, -0.02, 0.03])
    found = compare_pairs(differences, higher_is_better=True, tie_below=0.001, confidence=0.95)
    assert (found.wins, found.ties, found.losses) == (2, 2, 1)
    loss = compare_pairs(differences, higher_is_better=False, tie_below=0.001, confidence=0.95)
    assert (loss.wins, loss.ties, loss.losses) == (1, 2, 2)


def test_without_pairs_there_is_nothing_to_say() -> None:
    found = compare_pairs(np.zeros(0), higher_is_better=True, tie_below=0.001, confidence=0.95)
    assert (found.num_pairs, found.mean, found.p, found.p_exact) == (0, None, None, None)
    assert (found.wins, found.ties, found.losses) == (0, 0, 0)


def noise(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return what seeds add to the values of exchangeable methods."""
    if kind == "normal":
        return rng.normal(size=shape)
    if kind == "heavy tails":
        return rng.standard_t(3, size=shape)
    return rng.normal(size=shape) * np.where(rng.random(shape) < 0.1, 4, 1)


def rejections(differences: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which comparisons of each study are significant, (study, comparison)."""
    p_values = stats.ttest_1samp(differences, 0, axis=2).pvalue
    return np.array([[p <= ALPHA for p in holm(study)] for study in p_values])  # type: ignore[operator]


def studies(
    kind: str, num_studies: int, num_methods: int, num_seeds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return differences to a reference, (study, method, seed): they share its values."""
    values = noise(kind, (num_studies, num_methods, num_seeds), rng)
    return values[:, 1:] - values[:, :1]


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "outliers"])
def test_no_method_is_called_different_too_often_where_none_is(
    kind: str, rng: np.random.Generator
) -> None:
    num = 1500
    errors = rejections(studies(kind, num, 8, 10, rng)).any(axis=1).sum()
    assert errors <= stats.binom.ppf(0.9999, num, ALPHA)


def test_without_a_correction_some_method_is_called_different_far_too_often(
    rng: np.random.Generator,
) -> None:
    p_values = stats.ttest_1samp(studies("normal", 1500, 8, 10, rng), 0, axis=2).pvalue
    assert (p_values <= ALPHA).any(axis=1).mean() > 3 * ALPHA


def test_equal_methods_are_left_alone_beside_one_that_is_better(rng: np.random.Generator) -> None:
    num = 1500
    differences = studies("normal", num, 8, 10, rng)
    differences[:, 0] += 5
    found = rejections(differences)
    assert found[:, 0].mean() > 0.99
    assert found[:, 1:].any(axis=1).sum() <= stats.binom.ppf(0.9999, num, ALPHA)


def test_the_t_test_shows_more_than_exact_tests_do_with_ten_seeds(
    rng: np.random.Generator,
) -> None:
    differences = studies("normal", 400, 8, 10, rng)
    differences[:, 0] += 1.5 * 2**0.5
    exact = np.array([holm([sign_flip_test(d) for d in study]) for study in differences])
    assert rejections(differences)[:, 0].mean() > (exact[:, 0] <= ALPHA).mean()


def test_simultaneous_intervals_hold_together(rng: np.random.Generator) -> None:
    num, truth = 400, 0.3
    differences = studies("normal", num, 5, 6, rng) + truth
    missed = 0
    for study in differences:
        found = [
            compare_pairs(d, higher_is_better=True, tie_below=0, confidence=1 - ALPHA / 4)
            for d in study
        ]
        missed += not all(f.low <= truth <= f.high for f in found)  # type: ignore[operator]
    assert missed <= stats.binom.ppf(0.9999, num, ALPHA)
    assert missed >= stats.binom.ppf(0.0001, num, ALPHA / 3)  # and they are not much too wide
