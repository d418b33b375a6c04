"""The risk of a linear model against other implementations, limits, and small simulations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import brentq

from fedsim.bag_theory.linear_risk import (
    Risk,
    asymptotic_risk,
    crossover_snr,
    easy_llp_risk,
    finite_bag_risk,
    finite_instance_risk,
    ridge_risk,
)


def as_stated(k: float, rho: float, psi: float, r2: float, s2: float) -> tuple[float, float]:
    """Return bias and variance as their derivation states them, v being searched for."""

    def excess(log_v: float) -> float:
        v = np.exp(log_v)
        return psi / k * (v / (1 + v) + (k - 1) * rho * v / (1 + rho * v)) - 1

    v = np.exp(brentq(excess, -40, 60, xtol=1e-15, rtol=1e-15))
    d = 1 / (1 + v) ** 2 + (k - 1) * rho / (1 + rho * v) ** 2
    kappa = 1 - psi / k * v / (1 + v)
    spread = kappa**2 / (1 + v) ** 2 + (k - 1) * rho**2 * (1 - kappa) ** 2 / (1 + rho * v) ** 2
    return r2 * (kappa**2 + v * spread / d), s2 * v / (1 + v) ** 2 / d


def test_agrees_with_another_implementation(oracles: Path) -> None:
    oracle = np.load(oracles / "bags" / "linear_risk.npz")
    found = asymptotic_risk(
        oracle["ks"][:, None],
        oracle["rhos"],
        ratio=float(oracle["psi"]),
        signal=float(oracle["r2"]),
        noise=float(oracle["s2"]),
    )
    columns = {"bias2": found.bias2, "var": found.variance, "risk": found.total}
    for number, name in enumerate(oracle["cols"]):
        np.testing.assert_allclose(
            columns[name], oracle["theory"][..., number], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("psi", [1.05, 2.0, 10.0, 300.0])
@pytest.mark.parametrize("k", [2, 3, 10, 64])
@pytest.mark.parametrize("rho", [1e-4, 0.03, 0.5, 1.0, 3.0])
def test_agrees_with_the_root_that_is_searched_for(psi: float, k: int, rho: float) -> None:
    found = asymptotic_risk(k, rho, ratio=psi, signal=2.0, noise=0.7)
    assert (found.bias2, found.variance) == pytest.approx(
        as_stated(k, rho, psi, 2.0, 0.7), rel=1e-8
    )


@pytest.mark.parametrize(("k", "psi"), [(2, 10.0), (4, 10.0), (5, 5.5), (16, 20.0)])
def test_bag_and_instance_loss_in_closed_form(k: int, psi: float) -> None:
    bag, instance = (
        asymptotic_risk(k, rho, ratio=psi, signal=2.0, noise=0.7) for rho in (0.0, 1.0)
    )
    assert bag == pytest.approx((0.0, 0.7 / (psi / k - 1)))
    bias2 = 2.0 * ((k - 1) ** 2 / k**2 + (k - 1) / (k**2 * (psi - 1)))
    assert instance == pytest.approx((bias2, 0.7 / (k * (psi - 1))))


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0, 25.0])
def test_in_bags_of_one_every_rho_is_least_squares(rho: float) -> None:
    found = asymptotic_risk(1, rho, ratio=3.0, signal=1.0, noise=0.5)
    assert found == pytest.approx((0.0, 0.5 / 2), abs=1e-15)


def test_small_rho_is_not_the_bag_loss_where_bags_are_too_few() -> None:
    small, none = (asymptotic_risk(4, rho, ratio=3, signal=1, noise=1) for rho in (1e-12, 0.0))
    c = (4 - 3) / (4 * (3 - 1))
    q = (1 + c) ** 2 / (3 * c)
    assert small == pytest.approx(((1 - 3 / 4) ** 2 * (1 + q) + c * (3 / 4) ** 2, q))
    assert small == pytest.approx((0.34375, 3.375))
    assert none == (np.inf, np.inf)
    least_norm = (1 - 3 / 4, 1 / (4 / 3 - 1))
    assert small != pytest.approx(least_norm, rel=0.1)


def test_extreme_numbers_have_their_limits() -> None:
    smallest = asymptotic_risk(4, [1e-300, 5e-324], ratio=3, signal=1, noise=1)
    np.testing.assert_allclose(smallest.total, 0.34375 + 3.375)
    largest = asymptotic_risk(4, [1e200, 1e250], ratio=3, signal=1, noise=1)
    assert largest.total[0] == pytest.approx(largest.total[1])
    assert largest.total[0] == pytest.approx(
        asymptotic_risk(4, 1e9, ratio=3, signal=1, noise=1).total
    )
    assert ridge_risk(4, ratio=3, signal=1, noise=1e200) == pytest.approx(1.0)
    assert ridge_risk(4, ratio=3, signal=1, noise=0) == pytest.approx(1 - 3 / 4)
    assert ridge_risk(2, ratio=3, signal=0, noise=0) == ridge_risk(2, ratio=3, signal=1, noise=0)


def test_numbers_are_taken_together() -> None:
    ks, noises = np.array([1, 2, 4]), np.array([0.9, 0.6, 0.3])
    found = asymptotic_risk(ks[:, None], [0.0, 0.5], ratio=3, signal=1, noise=noises[:, None])
    assert found.total.shape == (3, 2)
    for row, (k, noise) in enumerate(zip(ks, noises, strict=True)):
        for column, rho in enumerate((0.0, 0.5)):
            one = asymptotic_risk(k, rho, ratio=3, signal=1, noise=noise)
            assert found.total[row, column] == one.total


@pytest.mark.parametrize(
    ("psi", "k", "snr"), [(10, 2, 0.7), (10, 4, 1.0952), (10, 8, 5.125), (3, 2, 4.6667)]
)
def test_where_bag_and_instance_loss_cross(psi: float, k: int, snr: float) -> None:
    found = crossover_snr(k, ratio=psi)
    assert found == pytest.approx(snr, abs=5e-5)
    bag, instance = (
        asymptotic_risk(k, rho, ratio=psi, signal=found, noise=1).total for rho in (0, 1)
    )
    assert bag == pytest.approx(instance, rel=1e-12)
    below = [asymptotic_risk(k, rho, ratio=psi, signal=0.9 * found, noise=1) for rho in (0, 1)]
    assert below[1].total < below[0].total


def test_the_instance_loss_always_wins_where_bags_are_too_few() -> None:
    assert crossover_snr(4, ratio=4) == np.inf


def test_easy_llp_in_closed_form() -> None:
    found = easy_llp_risk(4, ratio=10, signal=1, noise=0.5)
    assert found.total == pytest.approx(0.5556, abs=5e-5)
    snr = 4 / (10 - 4)
    bag = asymptotic_risk(4, 0, ratio=10, signal=snr, noise=1)
    assert easy_llp_risk(4, ratio=10, signal=snr, noise=1).total == pytest.approx(bag.total)
    single = easy_llp_risk(1, ratio=10, signal=1, noise=0.5)
    assert single == pytest.approx((0, 0.5 / 9))


@pytest.mark.parametrize(
    ("k", "bias2", "variance"),
    [
        (2, 0.27790, 0.027793),
        (4, 0.58343, 0.013897),
        (5, 0.65786, 0.011117),
        (8, 0.77783, 0.006948),
    ],
)
def test_finite_means_agree_with_another_implementation(
    k: int, bias2: float, variance: float
) -> None:
    found = finite_instance_risk(k, num_examples=2000, num_dimensions=200, signal=1, noise=0.5)
    assert found.bias2 == pytest.approx(bias2, abs=5e-6)
    assert found.variance == pytest.approx(variance, abs=5e-7)


@pytest.mark.parametrize("k", [1, 2, 8])
def test_finite_means_go_to_the_asymptotic_risk(k: int) -> None:
    n, d = 16_000_000, 1_600_000
    bag = finite_bag_risk(k, num_examples=n, num_dimensions=d, noise=0.5)
    instance = finite_instance_risk(k, num_examples=n, num_dimensions=d, signal=2, noise=0.5)
    for finite, rho in ((bag, 0.0), (instance, 1.0)):
        limit = asymptotic_risk(k, rho, ratio=10, signal=2, noise=0.5)
        assert finite == pytest.approx(limit, rel=1e-5, abs=1e-15)


def simulated(k: int, n: int, d: int, rho: float, num: int) -> NDArray[np.float64]:
    """Return bias and variance of single designs, (design, 2), for signal and noise of 1."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(num, n // k, k, d))
    means = x.mean(axis=2)
    between = k * np.einsum("sai,saj->sij", means, means)
    whole = np.einsum("sabi,sabj->sij", x, x)
    to_model = np.linalg.inv((1 - rho) * between + rho * whole)
    bias = to_model @ between - np.eye(d)
    covariance = to_model @ between @ to_model
    return np.stack([(bias**2).sum((1, 2)) / d, np.trace(covariance, axis1=1, axis2=2)], axis=1)


@pytest.mark.parametrize("k", [2, 4])
def test_finite_means_are_those_of_simulated_designs(k: int) -> None:
    n, d, num = 40, 4, 20_000
    bag = finite_bag_risk(k, num_examples=n, num_dimensions=d, noise=1)
    instance = finite_instance_risk(k, num_examples=n, num_dimensions=d, signal=1, noise=1)
    for expected, rho in ((bag, 0.0), (instance, 1.0)):
        found = simulated(k, n, d, rho, num)
        error = found.std(axis=0) / np.sqrt(num)
        assert (abs(found.mean(axis=0) - np.array(expected)) <= 4 * error + 1e-12).all()


def test_tuned_ridge_is_the_marchenko_pastur_integral() -> None:
    k, psi, r2, s2 = 4, 10, 2.0, 1.0
    gamma = k / psi
    penalty = gamma * s2 / r2
    low, high = (1 - gamma**0.5) ** 2, (1 + gamma**0.5) ** 2

    def density(x: float) -> float:
        return np.sqrt((high - x) * (x - low)) / (2 * np.pi * gamma * x)

    integral, _ = quad(lambda x: density(x) / (x + penalty), low, high)
    found = ridge_risk(k, ratio=psi, signal=r2, noise=s2)
    assert found == pytest.approx(gamma * s2 * integral, rel=1e-7)
    assert found == pytest.approx(0.4495, abs=5e-5)


@pytest.mark.parametrize("psi", [1.05, 3.0, 20.0])
@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0, 1e4])
def test_no_rho_beats_tuned_ridge_and_ridge_never_gains_by_larger_bags(
    psi: float, noise: float
) -> None:
    ks = np.array([1, 2, 3, 8, 50])
    protected = noise + 5.0 / ks
    ridge = ridge_risk(ks, ratio=psi, signal=1, noise=protected)
    rhos = np.geomspace(1e-9, 1e3, 500)
    best = asymptotic_risk(
        ks[:, None], rhos, ratio=psi, signal=1, noise=protected[:, None]
    ).total.min(axis=1)
    assert (ridge <= best * (1 + 1e-12)).all()
    assert (np.diff(ridge) >= 0).all()
    assert (ridge <= 1).all()


def test_the_interpolation_comes_close_to_tuned_ridge() -> None:
    rhos = np.linspace(0, 1, 20_001)
    found = asymptotic_risk(4, rhos, ratio=10, signal=2, noise=1).total
    assert (found[0], found[-1], found.min()) == pytest.approx((0.667, 1.194, 0.4629), abs=5e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bag_size": 0.5},
        {"bag_size": np.nan},
        {"rho": -0.1},
        {"rho": np.inf},
        {"ratio": 1.0},
        {"ratio": np.inf},
        {"signal": -1.0},
        {"noise": np.nan},
        {"noise": [0.1, -0.1]},
    ],
    ids=str,
)
def test_what_the_theory_does_not_know_is_refused(wrong: dict[str, float]) -> None:
    given = {"bag_size": 4, "rho": 0.5, "ratio": 10.0, "signal": 1.0, "noise": 0.5}
    assert isinstance(asymptotic_risk(**given), Risk)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must be|expected"):
        asymptotic_risk(**{**given, **wrong})  # type: ignore[arg-type]


def test_means_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="more bags than dimensions"):
        finite_bag_risk(2, num_examples=22, num_dimensions=10, noise=1)
    with pytest.raises(ValueError, match="more examples than dimensions"):
        finite_instance_risk(2, num_examples=11, num_dimensions=10, signal=1, noise=1)
    with pytest.raises(ValueError, match="above 1"):
        crossover_snr(1, ratio=10)
