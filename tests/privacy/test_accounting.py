"""Epsilon against closed forms, other implementations and published values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.dp_event import DpEvent
from scipy.optimize import brentq
from scipy.stats import norm

from fedsim.privacy.accounting import (
    COARSE,
    FINE,
    bounds,
    deltas,
    epsilon,
    pure_epsilon,
    rough_epsilon,
)
from fedsim.privacy.cross_checks import (
    GDP,
    OPACUS_RDP,
    RDP,
    contradictions,
    cross_checks,
)
from fedsim.privacy.events import History, history
from fedsim.privacy.units import SMALLEST_DELTA

Known = dict[str, dict[str, Any]]
SMALL = ("gauss_z1_T1_d1e-5", "fl_q0.1_z1_T100_d1e-3", "silo_n800_d1e-5")


def gaussian(noise: float, rate: float = 1.0, steps: int = 1) -> History:
    step = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
    return history([(dp_event.SelfComposedDpEvent(step, steps), 1)])


def laplace(scale: float, count: int, rate: float = 1.0) -> History:
    return history([(dp_event.PoissonSampledDpEvent(rate, dp_event.LaplaceDpEvent(scale)), count)])


def steps_of(row: dict[str, Any]) -> History:
    num = row["steps"] if "steps" in row else row["T"]
    return gaussian(row["sigma"], row["q"], num)


def subsampled_delta(noise: float, rate: float, eps: float) -> float:
    """The hockey-stick divergence of one step, remove direction (the larger one), written out."""
    ratio = (math.exp(eps) - (1 - rate)) / rate
    cut = noise**2 * math.log(ratio) + 0.5  # loss exceeds eps to the right of it
    above = rate * norm.sf((cut - 1) / noise) + (1 - rate) * norm.sf(cut / noise)
    return float(above - math.exp(eps) * norm.sf(cut / noise))


@pytest.mark.parametrize(("noise", "delta"), [(1.0, 1e-5), (2.0, 1e-5), (0.5, 1e-5), (10, 1e-3)])
def test_of_gaussian_noise_it_is_the_closed_form(noise: float, delta: float) -> None:
    def excess(eps: float) -> float:
        a, b = 1 / (2 * noise), eps * noise
        return float(norm.cdf(a - b) - math.exp(eps) * norm.cdf(-a - b)) - delta

    assert epsilon(gaussian(noise), delta) == pytest.approx(brentq(excess, 0, 50), abs=1e-6)
    at_once, one_by_one = gaussian(noise / math.sqrt(30)), gaussian(noise, steps=30)
    assert epsilon(one_by_one, delta) == pytest.approx(epsilon(at_once, delta), abs=1e-6)


@pytest.mark.parametrize(
    ("noise", "rate", "delta"),
    [(1.0, 0.1, 1e-5), (1.0, 0.01, 1e-6), (2.0, 0.5, 1e-2), (0.5, 0.1, 1e-3)],
)
def test_of_one_poisson_step_it_is_the_closed_form(noise: float, rate: float, delta: float) -> None:
    exact = brentq(lambda eps: subsampled_delta(noise, rate, eps) - delta, 1e-3, 20)
    assert epsilon(gaussian(noise, rate), delta) == pytest.approx(exact, abs=1e-6)


def test_at_the_coarse_interval_it_is_above_by_less_than_a_thousandth(known: Known) -> None:
    for name in SMALL:
        row = known[name]
        value = epsilon(steps_of(row), row["delta"], COARSE)
        assert -1e-6 < value - row["epsilon"]["oracle"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "noise"), [(1000, 3.624), (3000, 9.923)])
def test_at_the_smallest_delta_rounding_stays_above_the_truth(steps: int, noise: float) -> None:
    """Of samples of nearly all, which the closed form of all bounds from below; at 1e-12 it fails.

    Only that of one step composed with itself is at risk: Gaussian steps are one with less noise.
    """
    mu = math.sqrt(steps) / noise

    def excess(eps: float) -> float:
        a, b = mu / 2 - eps / mu, mu / 2 + eps / mu
        return float(norm.cdf(a) - math.exp(eps + norm.logcdf(-b))) - SMALLEST_DELTA

    truth = brentq(excess, 0.1, 500, xtol=1e-10)
    for interval in (FINE, COARSE):
        found = epsilon(gaussian(noise, 1 - 1e-9, steps), SMALLEST_DELTA, interval)
        assert truth - 1e-6 <= found < 1.01 * truth


def test_a_million_steps_need_a_finer_interval(known: Known) -> None:
    row = known["mcmahan2018_K1e+06_C1e+03_z3.0_T1000000"]
    events, delta = steps_of(row), row["delta"]
    assert epsilon(events, delta) == pytest.approx(row["epsilon"], abs=1e-3)
    assert epsilon(events, delta, 1e-5) == pytest.approx(1.5944, abs=1e-3)
    assert bounds(events, delta).low < 1.5944


def test_discrete_laplace_is_its_decay() -> None:
    events = history([(dp_event.DiscreteLaplaceDpEvent(0.7, 1), 1)])
    assert epsilon(events, 1e-12) == pytest.approx(0.7, abs=1e-3)


def test_unlike_rounds_are_composed(known: Known) -> None:
    row = known["hetero_50x(.1,1)+30x(.2,1.5)+20x(1,8)"]
    parts = [(gaussian(z, q, num), 1) for z, q, num in row["history"]]
    events = {event: num for part, _ in parts for event, num in part.items()}
    assert epsilon(events, row["delta"]) == pytest.approx(row["epsilon"], abs=1e-3)
    backwards = dict(reversed(events.items()))
    assert epsilon(backwards, row["delta"]) == epsilon(events, row["delta"])


def test_replace_one_is_noise_over_twice_the_clip(known: Known) -> None:
    sensitivity = 2.0
    events = gaussian(1.0 / sensitivity)
    right, wrong = known["conv_replace_one_z1_PLD"], known["conv_replace_one_z1_RDP"]
    assert epsilon(events, right["delta"]) == pytest.approx(right["epsilon"], abs=1e-4)
    said = cross_checks(events, right["delta"])[RDP]
    assert said > right["epsilon"] > 2 * wrong["epsilon"]


def test_the_profile_is_that_of_a_simulated_privacy_loss() -> None:
    noise, rate, steps, num = 1.0, 0.1, 20, 200_000
    rng = np.random.default_rng(1)
    loss = np.zeros(num)
    for _ in range(steps):
        x = rng.normal(size=num) * noise + (rng.random(num) < rate)
        loss += np.log1p(rate * np.expm1((2 * x - 1) / (2 * noise**2)))
    for eps, found in zip(
        (1.0, 2.0), deltas(gaussian(noise, rate, steps), [1.0, 2.0]), strict=True
    ):
        draws = np.clip(-np.expm1(eps - loss), 0, None)
        assert abs(draws.mean() - found) < 4 * draws.std() / math.sqrt(num)


def test_bounds_hold_the_truth_and_get_closer() -> None:
    events, delta = gaussian(1.0, 0.1, 100), 1e-5
    coarse, fine = bounds(events, delta, COARSE), bounds(events, delta, FINE)
    assert coarse.low < fine.low < 7.0466 < fine.high <= coarse.high < 7.0467
    assert fine.high - fine.low < 0.2 * (coarse.high - coarse.low)


def test_of_many_steps_the_lower_bound_is_made_finer_until_it_tells_something() -> None:
    found = bounds(gaussian(1.5, 5e-3, 50_000), 1e-5)
    assert found.close
    assert 3.3 < found.low < found.high == epsilon(gaussian(1.5, 5e-3, 50_000), 1e-5)
    assert not bounds(gaussian(1.5, 1e-3, 200_000), 1e-5).close


def test_epsilon_grows_with_steps_rate_and_less_noise() -> None:
    base = epsilon(gaussian(1.0, 0.1, 50), 1e-5, COARSE)
    assert base < epsilon(gaussian(1.0, 0.1, 60), 1e-5, COARSE)
    assert base < epsilon(gaussian(1.0, 0.12, 50), 1e-5, COARSE)
    assert base < epsilon(gaussian(0.9, 0.1, 50), 1e-5, COARSE)
    assert base < epsilon(gaussian(1.0, 0.1, 50), 1e-6, COARSE)
    assert base < rough_epsilon(gaussian(1.0, 0.1, 50), 1e-5)


def test_nothing_costs_nothing_and_no_noise_everything() -> None:
    assert epsilon({}, 1e-5) == 0
    bare: list[DpEvent] = [
        dp_event.NonPrivateDpEvent(),
        dp_event.GaussianDpEvent(0.0),
        dp_event.RandomizedResponseDpEvent(0.0, 2),
        dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(0.0)),
    ]
    for event in bare:
        events = {**gaussian(1.0, 0.1, 10), event: 1}
        assert epsilon(events, 1e-5) == math.inf
        assert cross_checks(events, 1e-5) == {}
        assert deltas(events, [0.0, 9.0]) == [1.0, 1.0]


def test_hardly_any_noise_is_a_large_number_in_no_time() -> None:
    assert 5e3 < epsilon(gaussian(0.01), 1e-5) < 6e3
    assert epsilon(gaussian(0.05, 0.5, 1000), 1e-5) > 1e4


def test_a_bound_below_what_is_possible_is_noticed() -> None:
    events, delta = gaussian(1.0, 0.1, 100), 1e-5
    found, checks = bounds(events, delta), cross_checks(events, delta)
    assert contradictions(found, checks) == []
    assert contradictions(found, {**checks, OPACUS_RDP: 0.9 * found.low}) == [OPACUS_RDP]
    assert contradictions(found, {**checks, GDP: 0.5}) == []


def test_pure_releases_have_an_exact_epsilon_that_adds_up() -> None:
    laplace, whole = dp_event.LaplaceDpEvent(4.0), dp_event.DiscreteLaplaceDpEvent(0.5, 2)
    flipped = dp_event.RandomizedResponseDpEvent(3 / (math.exp(1.2) + 2), 3)
    assert pure_epsilon({laplace: 2, whole: 1, flipped: 3}) == pytest.approx(0.5 + 1.0 + 3.6)
    assert pure_epsilon({laplace: 1, dp_event.GaussianDpEvent(9.0): 1}) is None
    assert pure_epsilon({dp_event.LaplaceDpEvent(0.0): 1}) is None
    assert pure_epsilon({}) == 0
    by_losses = epsilon({laplace: 2, whole: 1, flipped: 3}, 1e-9)
    assert by_losses == pytest.approx(5.1, abs=0.05)
