"""The bootstrap over seeds and images covers what it says, whichever images seeds share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fedsim.comparison.bootstrap import draw_units, left_rate, over_seeds, percentiles

SHARING = {"all": 60, "some": 200, "none": 0}
"""Which test images seeds share -> how many there are to choose 60 from."""


def test_images_are_left_alone_as_far_as_the_seeds_have_their_part_already() -> None:
    # of three seeds: unit 0 in all, 1 in two, 2 in one
    units = [np.array([0, 1, 2, 2]), np.array([0, 1]), np.array([0, 0])]
    assert left_rate(units, 3).tolist() == [0, 1 / 4, 1]


def test_of_one_seed_all_images_are_drawn() -> None:
    assert left_rate([np.array([0, 1, 1])], 2).tolist() == [0, 0]


def test_units_are_drawn_once_on_average_and_left_where_they_should_be() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_units(np.array([0, 0.5, 1]), 20_000, rng)
    assert drawn.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.03)
    assert drawn.var(axis=0) == pytest.approx([1, 0.5, 0], abs=0.04)


def test_the_spread_over_seeds_is_that_of_students_interval() -> None:
    seeds = np.random.default_rng(3).normal(0.9, 0.02, 8)
    values = np.repeat(seeds[:, None], 20_000, axis=1)
    means = over_seeds(values, 0.95, np.random.default_rng(0))
    low, high = percentiles(means, 0.95)
    expected = stats.t.interval(0.95, 7, loc=seeds.mean(), scale=stats.sem(seeds))
    assert low is not None
    assert high is not None
    assert high - low == pytest.approx(expected[1] - expected[0], rel=0.06)


def test_one_seed_or_none_is_not_resampled() -> None:
    rng = np.random.default_rng(0)
    assert over_seeds(np.array([[0.1, 0.2]]), 0.95, rng).tolist() == [0.1, 0.2]
    assert np.isnan(over_seeds(np.zeros((0, 2)), 0.95, rng)).all()


def test_too_few_determined_resamples_have_no_interval() -> None:
    assert percentiles(np.array([1.0, np.nan, np.nan]), 0.95) == (None, None)
    assert percentiles(np.array([]), 0.95) == (None, None)
    assert percentiles(np.array([1.0, 1.0, np.nan]), 0.95) == (1, 1)


def interval(
    sharing: str,
    spreads: tuple[float, float, float],
    num_seeds: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the interval of a mean whose truth is zero.

    Args:
        sharing: which images seeds share.
        spreads: standard deviations of seeds, of images whatever the seed, of what is left.
        num_seeds: how many.
        rng: makes the study and its resamples.
    """
    pool, size = SHARING[sharing] or 60 * num_seeds, 60
    hard = rng.normal(0, spreads[1], pool)
    if sharing == "none":
        chosen = list(np.arange(pool).reshape(num_seeds, size))
    else:
        chosen = [rng.choice(pool, size, replace=False) for _ in range(num_seeds)]
    used = np.unique(np.concatenate(chosen))
    codes = [np.searchsorted(used, own) for own in chosen]
    values = [
        rng.normal(0, spreads[0]) + hard[own] + rng.normal(0, spreads[2], size) for own in chosen
    ]
    units = draw_units(left_rate(codes, len(used)), 200, rng)

    def mean(own: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = units[:, own] @ value / units[:, own].sum(axis=1)
        return found

    resampled = np.stack([mean(*pair) for pair in zip(codes, values, strict=True)])
    low, high = percentiles(over_seeds(resampled, 0.95, rng), 0.95)
    assert low is not None
    assert high is not None
    return low, high


@pytest.mark.slow
@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("spreads", [(0.1, 1, 0.5), (0.3, 0.2, 0.5), (0.01, 1, 0.01)])
def test_intervals_cover_the_truth(sharing: str, spreads: tuple[float, float, float]) -> None:
    rng, num = np.random.default_rng(7), 400
    ends = [interval(sharing, spreads, 6, rng) for _ in range(num)]
    covered = sum(low <= 0 <= high for low, high in ends)
    assert covered >= stats.binom.ppf(0.001, num, 0.92)  # percentiles of few resamples lose some


@pytest.mark.slow
def test_seeds_alone_would_not_cover_images_that_all_seeds_share() -> None:
    rng, num, missed = np.random.default_rng(7), 200, 0
    for _ in range(num):
        hard = rng.normal(0, 1, 60).mean()
        found = hard + rng.normal(0, 0.01, 6)
        low, high = stats.t.interval(0.95, 5, loc=found.mean(), scale=stats.sem(found))
        missed += not low <= 0 <= high
    assert missed > num / 2
