"""What a site draws: the law in closed form, no example twice, and nothing at other sites' cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import chisquare, kstest

from fedsim.data.resampled import Resampled

POOL = (200, 700, 0, 100)
"""Examples per class."""


def by_class(counts: tuple[int, ...]) -> list[NDArray[np.int64]]:
    ends = np.cumsum(counts)
    return [np.arange(end - count, end) for count, end in zip(counts, ends, strict=True)]


def drawn(rule: Resampled, num: int, counts: tuple[int, ...] = POOL) -> list[NDArray[np.int64]]:
    pool = by_class(counts)
    return [rule.draw(pool, np.random.default_rng(seed)) for seed in range(num)]


def shares(sites: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return the share of each class at each site, (site, class)."""
    owner = np.repeat(np.arange(len(POOL)), POOL)
    return np.array([np.bincount(owner[s], minlength=len(POOL)) / len(s) for s in sites])


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(lambda c: sum(c) > 0),
    low=st.integers(1, 60),
    more=st.integers(0, 60),
    alpha=st.none() | st.floats(1e-3, 1e3),
    seed=st.integers(0, 999),
)
def test_a_site_has_as_many_examples_as_it_may_and_none_twice(
    counts: list[int], low: int, more: int, alpha: float | None, seed: int
) -> None:
    low = min(low, sum(counts))
    high = min(low + more, sum(counts))
    rule = Resampled(examples_per_site=(low, high), alpha=alpha)
    chosen = rule.draw(by_class(tuple(counts)), np.random.default_rng(seed))
    assert low <= len(chosen) <= high
    assert len(set(chosen.tolist())) == len(chosen)
    assert chosen.min() >= 0
    assert chosen.max() < sum(counts)


@pytest.mark.parametrize("alpha", [0.3, 3.0])
def test_mean_and_variance_of_a_class_at_a_site_in_closed_form(alpha: float) -> None:
    n, num = 20, 6000
    found = shares(drawn(Resampled(examples_per_site=n, alpha=alpha), num))
    p = np.array(POOL) / sum(POOL)
    variance = p * (1 - p) * (1 + (n - 1) / (alpha + 1)) / n
    error = 4 * np.sqrt(variance / num) + 1e-12
    assert np.all(np.abs(found.mean(axis=0) - p) <= error)
    assert found.var(axis=0) == pytest.approx(variance, rel=0.1)
    other = p * (1 - p) * (1 + (n - 1) / (2 * alpha + 1)) / n
    assert found.var(axis=0) != pytest.approx(other, rel=0.1)  # and would notice twice the alpha


def test_without_alpha_the_variance_is_that_of_drawing_none_twice() -> None:
    n, num, size = 50, 6000, sum(POOL)
    found = shares(drawn(Resampled(examples_per_site=n), num))
    p = np.array(POOL) / size
    hypergeometric = p * (1 - p) / n * (size - n) / (size - 1)
    assert np.all(np.abs(found.mean(axis=0) - p) <= 4 * np.sqrt(hypergeometric / num) + 1e-12)
    assert found.var(axis=0) == pytest.approx(hypergeometric, rel=0.1)
    skewed = shares(drawn(Resampled(examples_per_site=n, alpha=1.0), 500))
    assert skewed.var(axis=0) != pytest.approx(hypergeometric, rel=0.1)


@pytest.mark.parametrize("alpha", [None, 5.0])
def test_every_example_of_the_pool_is_drawn_as_often_as_any_other(alpha: float | None) -> None:
    """With `alpha` too: its mixes have the shares of the pool on average."""
    counts, num = (10, 30), 4000
    sites = drawn(Resampled(examples_per_site=2, alpha=alpha), num, counts)
    times = np.bincount(np.concatenate(sites), minlength=40)
    assert times.sum() == 2 * num
    spread = np.sqrt(num * 2 / 40)
    assert np.abs(times - num * 2 / 40).max() < 4.5 * spread
    mine = times[:10]
    assert chisquare(mine).pvalue > 0.001
    assert chisquare(mine + 0.3 * mine.mean() * (np.arange(10) < 3)).pvalue < 0.001


def test_sizes_are_all_alike_between_the_two_numbers() -> None:
    sizes = np.array([len(s) for s in drawn(Resampled(examples_per_site=(3, 7)), 3000)])
    counts = np.bincount(sizes, minlength=8)
    assert set(np.flatnonzero(counts)) == {3, 4, 5, 6, 7}
    assert chisquare(counts[3:]).pvalue > 0.001
    assert chisquare([counts[3] * 1.5, *counts[4:]]).pvalue < 0.001


def test_the_class_mix_of_a_small_alpha_is_nearly_one_class() -> None:
    found = shares(drawn(Resampled(examples_per_site=20, alpha=1e-3), 2000))
    pure = (found.max(axis=1) == 1).mean()
    assert pure > 0.95
    largest = found.argmax(axis=1)
    assert np.bincount(largest, minlength=4) / 2000 == pytest.approx(
        np.array(POOL) / sum(POOL), abs=0.04
    )


def test_the_share_of_one_of_two_classes_is_beta_distributed() -> None:
    """With many examples per site the counts show the mix itself."""
    counts = (40_000, 60_000)
    sites = drawn(Resampled(examples_per_site=20_000, alpha=2.0), 400, counts)
    found = [(s < counts[0]).mean() for s in sites]
    assert kstest(found, "beta", (2 * 0.4, 2 * 0.6)).pvalue > 0.001
    assert kstest(found, "beta", (4 * 0.4, 4 * 0.6)).pvalue < 0.001


def test_what_the_pool_lacks_of_a_class_comes_from_the_others() -> None:
    rule = Resampled(examples_per_site=10, alpha=1e-3)
    for chosen in drawn(rule, 50, (4, 30)):
        assert len(chosen) == 10
        assert (chosen < 4).sum() in (0, 4)


@pytest.mark.parametrize("given", [0, -3, [5, 2], [4], [1, 2, 3], 2.5])
def test_numbers_of_examples_that_mean_nothing_are_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        Resampled.model_validate({"examples_per_site": given})
