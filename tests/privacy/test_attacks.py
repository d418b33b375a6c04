"""Attack figures against their closed form for Gaussian noise, and against values of riskcal."""

from __future__ import annotations

import math

import pytest
from dp_accounting import dp_event
from scipy.optimize import brentq
from scipy.stats import norm

from fedsim.privacy.attacks import strongest, strongest_on_pure, strongest_on_replaced
from fedsim.privacy.events import history
from fedsim.privacy.units import UNITS, Unit


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
def test_of_gaussian_noise_they_are_those_of_two_normal_laws(noise: float) -> None:
    attack = strongest({dp_event.GaussianDpEvent(noise): 1})
    assert attack.advantage == pytest.approx(2 * norm.cdf(1 / (2 * noise)) - 1, abs=1e-4)
    exact = norm.cdf(norm.ppf(0.01) + 1 / noise)
    assert exact - 1e-6 <= attack.true_positive_rate < exact + 1e-4


@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_against_another_unit_in_its_place_gaussian_noise_counts_as_half(noise: float) -> None:
    attack = strongest_on_replaced({dp_event.GaussianDpEvent(noise): 1})
    exact = 2 * norm.cdf(1 / noise) - 1
    assert exact - 1e-6 <= attack.advantage < exact + 3e-3
    exact = norm.cdf(norm.ppf(0.01) + 2 / noise)
    assert exact - 1e-6 <= attack.true_positive_rate < exact + 1e-3


def test_against_another_unit_in_its_place_sampled_noise_allows_what_there_is() -> None:
    """The other unit may move the sum the other way, and is in the sample as often."""
    rate, noise, far = 0.3, 0.8, 0.01
    attack = strongest_on_replaced({_sampled(rate, noise): 1})

    def above(threshold: float, mean: float) -> float:
        return rate * norm.sf(threshold, mean, noise) + (1 - rate) * norm.sf(threshold, 0, noise)

    threshold = brentq(lambda t: above(t, -1.0) - far, -10, 10)
    assert above(threshold, 1.0) <= attack.true_positive_rate
    at_middle = above(0.0, 1.0) - above(0.0, -1.0)
    assert (
        at_middle <= attack.advantage < 2 * strongest({_sampled(rate, noise): 1}).advantage + 2e-3
    )


def _sampled(rate: float, noise: float) -> dp_event.DpEvent:
    return dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_with_hardly_any_noise_every_attack_is_possible(noise: float) -> None:
    """At epsilons whose exponential no double holds."""
    release = {dp_event.GaussianDpEvent(noise): 1}
    for found in (strongest(release, 1e-2), strongest_on_replaced(release, 1e-2)):
        assert found.advantage <= 1
        assert (found.advantage, found.true_positive_rate) == pytest.approx((1.0, 1.0))


def test_of_sampled_noise_they_are_those_of_another_implementation() -> None:
    step = dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(1.0))
    attack = strongest(history([(step, 100)]))
    assert attack.advantage == pytest.approx(0.4388, abs=1e-4)
    assert attack.true_positive_rate == pytest.approx(0.1461, abs=1e-4)
    assert "72.0 times" in attack.text("example", "replace_special")
    assert "14.7 in a hundred" in attack.text("example", "replace_special")


def test_without_noise_every_attack_is_possible_and_without_release_none() -> None:
    bare = strongest({dp_event.NonPrivateDpEvent(): 1})
    assert (bare.advantage, bare.true_positive_rate) == (1.0, 1.0)
    none = strongest({})
    assert none.advantage == 0
    assert none.true_positive_rate == pytest.approx(0.01)
    assert strongest_on_replaced({dp_event.NonPrivateDpEvent(): 1}) == bare
    assert strongest_on_replaced({}).advantage == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_of_a_pure_release_the_bounds_are_those_of_its_epsilon_alone(epsilon: float) -> None:
    """They are attained by randomised response, which the profile of losses also says."""
    rate = 2 / (math.exp(epsilon) + 1)
    pure = strongest_on_pure(epsilon)
    by_profile = strongest({dp_event.RandomizedResponseDpEvent(rate, 2): 1})
    assert pure.advantage == pytest.approx(by_profile.advantage, abs=1e-3)
    assert pure.true_positive_rate == pytest.approx(by_profile.true_positive_rate, abs=1e-3)
    assert strongest_on_pure(1e6).advantage == 1


@pytest.mark.parametrize("unit", ["label", "site"])
def test_of_replaced_units_it_is_asked_which_of_two_there_was(unit: Unit) -> None:
    said = strongest_on_pure(1.0).text(unit, "replace_one")
    assert f"which of two is in the place of one {UNITS[unit]}, and" in said
    assert "the other is found at most 2.8 times in a hundred" in said  # e / 100, rounded up
    assert "used" not in said
    assert f"whether one {UNITS[unit]} was used" in strongest_on_pure(1.0).text(
        unit, "replace_special"
    )
