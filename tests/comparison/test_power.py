"""The power formula against simulation, and what exact tests can attain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fedsim.comparison.paired import holm, sign_flip_test
from fedsim.comparison.power import (
    detectable_difference,
    power_of,
    power_table,
    seeds_for_exact_test,
    seeds_needed,
    smallest_exact_p,
    spread_limit,
)


@pytest.mark.parametrize(
    ("difference", "num_seeds", "alpha"), [(1.0, 10, 0.05), (1.5, 10, 0.05 / 14), (2.0, 4, 0.05)]
)
def test_power_is_the_share_of_studies_that_reject(
    difference: float, num_seeds: int, alpha: float
) -> None:
    rng, num, sd = np.random.default_rng(3), 20_000, 0.02
    differences = rng.normal(difference * sd, sd, (num, num_seeds))
    rejected = (stats.ttest_1samp(differences, 0, axis=1).pvalue <= alpha).mean()
    expected = power_of(difference * sd, sd, num_seeds, alpha)
    assert rejected == pytest.approx(expected, abs=4 * (expected * (1 - expected) / num) ** 0.5)


def test_without_a_difference_the_power_is_the_level() -> None:
    assert power_of(0, 1, 7, 0.03) == pytest.approx(0.03)


@pytest.mark.parametrize("num_seeds", [2, 3, 10, 200, 1000])
@pytest.mark.parametrize("difference", [0.01, 1.0, 30.0, 1e4, 1e16])
def test_power_is_a_probability_everywhere(num_seeds: int, difference: float) -> None:
    assert 0 <= power_of(difference, 1, num_seeds, 0.05 / 14) <= 1


def test_the_detectable_difference_has_the_wanted_power() -> None:
    found = detectable_difference(0.02, 10, 0.05 / 7, 0.8)
    assert found is not None
    assert power_of(found, 0.02, 10, 0.05 / 7) == pytest.approx(0.8)


def test_a_published_sample_size() -> None:
    # Cohen's tables, as G*Power: paired t test, d = 0.5, two-sided 5 %, power 0.8: 34 pairs
    assert seeds_needed(sd=1, difference=0.5, alpha=0.05, power=0.8) == 34


def test_one_seed_fewer_than_needed_is_too_few() -> None:
    needed = seeds_needed(0.03, 0.02, 0.05 / 14)
    assert needed is not None
    assert power_of(0.02, 0.03, needed, 0.05 / 14) >= 0.8
    assert power_of(0.02, 0.03, needed - 1, 0.05 / 14) < 0.8


def test_what_no_study_can_show_has_no_number_of_seeds() -> None:
    assert seeds_needed(1, 0.001, 0.05) is None
    assert detectable_difference(1, 1, 0.05) is None


def test_without_spread_anything_is_shown() -> None:
    assert detectable_difference(0, 2, 0.05) == 0
    assert seeds_needed(0, 0.02, 0.05) == 2


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_the_smallest_exact_p_is_that_of_differences_of_one_sign(num_seeds: int) -> None:
    differences = np.linspace(1, 2, num_seeds)
    assert sign_flip_test(differences) == smallest_exact_p(num_seeds)
    assert stats.wilcoxon(differences, method="exact").pvalue == smallest_exact_p(num_seeds)


@pytest.mark.parametrize("num_comparisons", [1, 2, 7, 14])
def test_from_so_many_seeds_on_an_exact_test_can_reject_after_holm(num_comparisons: int) -> None:
    def adjusted(num_seeds: int) -> float:
        others = [1.0] * (num_comparisons - 1)
        (p, *_) = holm([smallest_exact_p(num_seeds), *others])
        assert p is not None
        return p

    enough = seeds_for_exact_test(num_comparisons, 0.05)
    assert adjusted(enough) <= 0.05 < adjusted(enough - 1)


def test_the_limit_of_a_spread_is_above_the_truth_in_four_of_five_pilots() -> None:
    rng, num = np.random.default_rng(1), 5000
    spreads = rng.normal(0, 1, (num, 4)).std(axis=1, ddof=1)
    share = np.mean([spread_limit(sd, 4) >= 1 for sd in spreads])
    assert share == pytest.approx(0.8, abs=0.025)


def test_the_table_knows_what_it_does_not_know() -> None:
    table = power_table(
        {("base", "a"): np.array([0.01, 0.03, 0.02]), ("base", "b"): np.array([0.01])},
        num_seeds=5,
        smallest_difference=0.02,
        alpha=0.05,
    )
    known, unknown = table["rows"]
    assert known["detectable"] == detectable_difference(0.01, 5, 0.025)
    assert known["cautious_seeds_needed"] > known["seeds_needed"]
    assert unknown["num_pairs"] == 1
    assert unknown["sd"] is unknown["detectable"] is unknown["seeds_needed"] is None
    assert table["exact_test_seeds"] == 7
