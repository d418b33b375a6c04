"""The analytic calibration: against theorem 8 as written, dp_accounting and its own inverse."""

from __future__ import annotations

import numpy as np
import pytest
from dp_accounting import get_epsilon_gaussian, get_sigma_gaussian
from scipy.special import log_ndtr

from fedsim.privacy.label.gaussian import delta_of, noise_multiplier

CASES = [(e, d) for e in (1e-3, 0.1, 1.0, 8.0, 100.0) for d in (1e-12, 1e-5, 0.1, 0.9)]
EXTREME = [(1e-3, 1e-100), (1e-3, 0.999), (1e6, 1e-100), (1e6, 0.999), (1e6, 1e-5)]


@pytest.mark.parametrize(("epsilon", "delta"), CASES)
def test_the_condition_of_theorem_8_holds_with_equality(epsilon: float, delta: float) -> None:
    u = noise_multiplier(epsilon, delta)
    first = np.exp(log_ndtr(0.5 / u - epsilon * u))
    second = np.exp(epsilon + log_ndtr(-0.5 / u - epsilon * u))
    assert first - second == pytest.approx(delta, rel=1e-6)


@pytest.mark.parametrize(("epsilon", "delta"), CASES)
def test_dp_accounting_finds_the_same_noise(epsilon: float, delta: float) -> None:
    u = noise_multiplier(epsilon, delta)
    assert u == pytest.approx(get_sigma_gaussian(epsilon, delta, tol=1e-10), rel=1e-6)
    assert get_epsilon_gaussian(u, delta) == pytest.approx(epsilon, rel=1e-6)


@pytest.mark.parametrize(("epsilon", "delta"), CASES + EXTREME)
def test_noise_is_never_less_than_it_takes_nor_visibly_more(epsilon: float, delta: float) -> None:
    u = noise_multiplier(epsilon, delta)
    assert delta_of(epsilon, u) <= delta * (1 + 1e-10)  # which is its own rounding
    assert delta_of(epsilon, u * (1 - 1e-9)) > delta


def test_delta_falls_in_noise_and_in_epsilon() -> None:
    by_noise = [delta_of(1.0, u) for u in np.geomspace(0.2, 20, 200)]
    by_epsilon = [delta_of(epsilon, 0.7) for epsilon in np.linspace(0, 20, 200)]
    assert (np.diff(by_noise) < 0).all()
    assert (np.diff(by_epsilon) < 0).all()
