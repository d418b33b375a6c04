"""Ranks by hand, Friedman's test and Nemenyi's critical difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fedsim.comparison.ranks import critical_difference, rank


def test_mean_ranks_by_hand() -> None:
    values = np.array([[0.9, 0.8, 0.7], [0.5, 0.6, 0.5], [np.nan, 1, 1]])
    found = rank(values, higher_is_better=True, alpha=0.05)
    # first block 1, 2, 3; second 2.5, 1, 2.5; the third is not whole
    assert found.mean_ranks == (1.75, 1.5, 2.75)
    assert found.num_blocks == 2
    assert rank(values, higher_is_better=False, alpha=0.05).mean_ranks == (2.25, 2.5, 1.25)


# table 5 of Demsar 2006: q at 0.05 for 2 to 10 methods
@pytest.mark.parametrize(
    ("num_methods", "q"),
    list(
        zip(
            range(2, 11),
            [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164],
            strict=True,
        )
    ),
)
def test_the_critical_difference_has_the_published_quantile(num_methods: int, q: float) -> None:
    found = critical_difference(num_methods, 14, 0.05)
    expected = q * (num_methods * (num_methods + 1) / (6 * 14)) ** 0.5
    assert found == pytest.approx(expected, rel=4e-4)


def test_methods_that_differ_have_a_critical_difference() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.1, (12, 6)) + np.arange(6)
    found = rank(values, higher_is_better=True, alpha=0.05)
    assert found.mean_ranks == (6, 5, 4, 3, 2, 1)
    assert found.p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert found.critical_difference == critical_difference(6, 12, 0.05)


def test_methods_that_do_not_differ_have_none() -> None:
    values = np.random.default_rng(0).normal(0, 1, (12, 6))
    found = rank(values, higher_is_better=True, alpha=0.05)
    assert found.p is not None
    assert found.p > 0.05
    assert found.critical_difference is None
    assert "do not differ" in found.note


@pytest.mark.parametrize(("num_blocks", "num_methods"), [(10, 8), (20, 5)])
def test_too_few_blocks_or_methods_have_none(num_blocks: int, num_methods: int) -> None:
    values = np.arange(num_methods) + np.zeros((num_blocks, 1))
    found = rank(values, higher_is_better=True, alpha=0.05)
    assert found.critical_difference is None
    assert found.p is None
    assert "more than 10 blocks and 5 methods" in found.note


def test_equal_values_everywhere_do_not_differ() -> None:
    found = rank(np.ones((12, 6)), higher_is_better=True, alpha=0.05)
    assert (found.p, found.critical_difference) == (1.0, None)


@pytest.mark.parametrize("shape", [(0, 3), (4, 1)])
def test_there_may_be_nothing_to_rank(shape: tuple[int, int]) -> None:
    assert rank(np.ones(shape), higher_is_better=True, alpha=0.05).mean_ranks == ()
