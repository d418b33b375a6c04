"""Noise that is solved for keeps its promise, and not by more than it has to."""

from __future__ import annotations

import math

import pytest
from dp_accounting import get_sigma_gaussian

from fedsim.errors import InputError
from fedsim.privacy.accounting import COARSE, FINE, epsilon
from fedsim.privacy.calibration import least_noise, noises_together
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.events import History, history


def rounds(rate: float, num: int, noise: float) -> History:
    return history([(Steps(noise, rate, num).event(), 1)])


@pytest.mark.parametrize(
    ("rate", "num", "target"),
    [(0.04, 500, 8.0), (0.04, 500, 1.0), (0.16, 140, 50.0), (1.0, 1, 3.0)],
)
def test_it_meets_the_target_and_a_thousandth_less_does_not(
    rate: float, num: int, target: float
) -> None:
    noise = least_noise(lambda z: rounds(rate, num, z), target, 1e-5)
    assert epsilon(rounds(rate, num, noise), 1e-5, COARSE) <= target
    assert epsilon(rounds(rate, num, noise - 0.001), 1e-5, COARSE) > target
    assert 0.99 * target < epsilon(rounds(rate, num, noise), 1e-5, FINE) <= target
    assert round(noise, 3) == noise


def test_small_budgets_are_kept_too() -> None:
    """Renyi orders that are too small say 0.1 here for whatever noise."""
    noise = least_noise(lambda z: rounds(0.0351, 870, z), 0.05, 1e-5)
    assert epsilon(rounds(0.0351, 870, noise), 1e-5) <= 0.05
    assert epsilon(rounds(0.0351, 870, noise - 0.001), 1e-5) > 0.05
    assert 50 < noise < 65


def test_a_budget_that_some_noise_spends_nothing_of_is_kept_with_the_least() -> None:
    exact = get_sigma_gaussian(0.01, 0.1)  # at this delta much noise has an epsilon of 0
    noise = least_noise(lambda z: rounds(1.0, 1, z), 0.01, 0.1)
    assert exact - 1e-9 <= noise < 1.01 * exact


def test_of_one_gaussian_it_is_the_analytic_one() -> None:
    exact = get_sigma_gaussian(2.0, 1e-5)
    noise = least_noise(lambda z: rounds(1.0, 1, z), 2.0, 1e-5)
    assert exact <= noise < exact + 0.0011


@pytest.mark.parametrize(("num", "rate", "noise"), [(140, 0.16, 1.384), (500, 0.04, 0.863)])
def test_of_usual_sites_it_is_what_others_found(num: int, rate: float, noise: float) -> None:
    found = least_noise(lambda z: rounds(rate, num, z), 8.0, 1e-5)
    assert found == pytest.approx(noise, abs=0.0011)


def test_what_no_noise_can_do_is_refused() -> None:
    with pytest.raises(InputError, match="no noise multiplier"):
        least_noise(lambda z: rounds(1.0, 10**9, z), 0.001, 1e-9)


def gaussian(_: int, noise: float) -> History:
    return rounds(1.0, 1, noise)


def test_sites_of_the_same_patients_have_the_noise_of_one_that_releases_for_both() -> None:
    """Gaussian releases compose to one, so the truth is known: sqrt(2) times the noise of one."""
    one = get_sigma_gaussian(3.0, 1e-5)
    alone = dict.fromkeys(range(3), one)
    found = noises_together(gaussian, alone, [(0, 1)], 3.0, 1e-5)
    assert found[0] == found[1] == pytest.approx(math.sqrt(2) * one, rel=2e-3)
    assert found[2] == pytest.approx(one, abs=1e-3)
    both = history([(Steps(found[0], 1.0, 1).event(), 2)])
    assert 2.98 < epsilon(both, 1e-5) <= 3.0


def test_unequal_sites_raise_theirs_by_the_same_factor_and_chains_by_the_largest() -> None:
    alone = {site: least_noise(lambda z, n=n: rounds(0.1, n, z), 2.0, 1e-5) for site, n in NUMS}
    steps = dict(NUMS)

    def made(site: int, noise: float) -> History:
        return rounds(0.1, steps[site], noise)

    groups = [(0, 1, 2), (2, 3)]
    found = noises_together(made, alone, groups, 2.0, 1e-5)
    factors = [found[site] / alone[site] for site in range(4)]
    assert factors[0] == pytest.approx(factors[1], abs=2e-3)
    assert factors[0] == pytest.approx(factors[2], abs=2e-3)
    assert 1 < factors[3] < factors[0]
    for group in groups:
        parts = [made(site, found[site]) for site in group]
        spent = epsilon(history(p for part in parts for p in part.items()), 1e-5, COARSE)
        assert 1.99 < spent <= 2.0


def test_of_very_many_steps_the_rounding_is_made_finer_instead_of_refusing() -> None:
    many = {site: least_noise(lambda z: rounds(0.0005, 100_000, z), 1.0, 1e-5) for site in range(4)}
    found = noises_together(
        lambda _, noise: rounds(0.0005, 100_000, noise), many, [(0, 1, 2, 3)], 1.0, 1e-5
    )
    spent = history([(Steps(found[0], 0.0005, 100_000).event(), 4)])
    assert 0.9 < epsilon(spent, 1e-5) <= 1.0


def test_noise_that_is_enough_stays_as_it_is() -> None:
    alone = {0: 2.007, 1: 50.0}
    assert noises_together(gaussian, alone, [(0, 1)], 9.0, 1e-5) == alone


NUMS = ((0, 20), (1, 100), (2, 400), (3, 50))
