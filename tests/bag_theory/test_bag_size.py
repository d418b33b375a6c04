"""The best bag size under label privacy against other implementations and brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from fedsim.bag_theory.bag_size import (
    gaussian_variance,
    instance_bag_size,
    laplace_variance,
    optimal_bag_size,
    optimal_rho,
    transition_rho,
)
from fedsim.bag_theory.linear_risk import asymptotic_risk, easy_llp_risk, ridge_risk

MUCH = 1e9
"""Variance of noise beside which nothing else counts."""


def test_risk_under_laplace_noise_agrees_with_another_implementation(oracles: Path) -> None:
    oracle = np.load(oracles / "bags" / "dp_linear.npz")
    ks, rhos = oracle["ks"], oracle["rhos"]
    sum_noise = laplace_variance(float(oracle["eps"]), 2 * float(oracle["tau"]))
    known = {"ratio": float(oracle["psi"]), "signal": float(oracle["r2"])}
    noise = float(oracle["s2"])
    found = asymptotic_risk(ks[:, None], rhos, noise=noise + sum_noise / ks[:, None], **known).total
    np.testing.assert_allclose(found, oracle["theory"], rtol=1e-9)
    best = [
        optimal_bag_size(ks.tolist(), rho, noise=noise, sum_noise=sum_noise, **known).bag_size
        for rho in rhos
    ]
    assert best == ks[oracle["sim"].argmin(axis=0)].tolist()


def test_best_sizes_agree_with_another_implementation(oracles: Path) -> None:
    oracle = np.load(oracles / "bags" / "privacy.npz")
    known = {
        name: float(oracle[f"kstar_{symbol}"])
        for name, symbol in (("ratio", "psi"), ("signal", "r2"), ("noise", "s2"))
    }
    for epsilon, real, whole in zip(
        oracle["kstar_eps"], oracle["kstar_real"], oracle["kstar_int"], strict=True
    ):
        sum_noise = laplace_variance(epsilon, float(oracle["kstar_Delta"]))
        assert instance_bag_size(sum_noise=sum_noise, **known) == pytest.approx(real, rel=1e-9)
        found = optimal_bag_size(range(1, 100), 1.0, sum_noise=sum_noise, **known)
        assert found.bag_size == whole


def test_best_sizes_of_one_case_for_all_to_check() -> None:
    found = [
        instance_bag_size(
            ratio=20, signal=1, noise=0.5, sum_noise=laplace_variance(epsilon, 9.4092)
        )
        for epsilon in (0.5, 1, 2, 4, 8, 16)
    ]
    assert found == pytest.approx([39.8, 10.69, 3.41, 1.59, 1.14, 1.02], abs=5e-3)


def test_the_best_real_size_is_clipped_where_it_lies_outside() -> None:
    assert instance_bag_size(ratio=3, signal=0.1, noise=10, sum_noise=1) == np.inf
    assert instance_bag_size(ratio=20, signal=1, noise=0, sum_noise=0) == 1.0
    with pytest.raises(ValueError, match="not convex"):
        instance_bag_size(ratio=1.5, signal=1, noise=0.1, sum_noise=0.2)


def test_gaussian_noise_of_a_bag_of_one_has_the_sensitivity_times_the_multiplier() -> None:
    assert gaussian_variance(3.0, 2.0) == 36.0


@pytest.mark.parametrize(
    ("psi", "of_2", "of_5"), [(20, 0.0224, 0.0186), (10, 0.0401, 0.0273), (6, 0.0576, 0.0280)]
)
def test_where_noise_rules_a_larger_rho_asks_for_larger_bags(
    psi: float, of_2: float, of_5: float
) -> None:
    for size, threshold in ((2, of_2), (5, of_5)):
        best = [
            optimal_bag_size((1, size), rho, ratio=psi, signal=0, noise=0, sum_noise=MUCH).bag_size
            for rho in (threshold - 1e-4, threshold + 1e-4)
        ]
        assert best == [1, size]


@pytest.mark.parametrize("psi", [3, 6, 10, 20])
def test_the_transition_is_where_the_risk_is_flat_at_bags_of_one(psi: float) -> None:
    def slope(rho: float) -> float:
        h = 1e-5
        low, high = (
            asymptotic_risk(1 + d, rho, ratio=psi, signal=0, noise=1 / (1 + d)).total
            for d in (h, 2 * h)
        )
        return float(high - low) / h

    assert transition_rho(psi) == pytest.approx(brentq(slope, 1e-4, 1), rel=1e-3)


def test_where_noise_rules_bag_loss_wants_one_and_instance_loss_all() -> None:
    sizes = range(1, 6)
    best = {
        rho: optimal_bag_size(sizes, rho, ratio=20, signal=1, noise=0.5, sum_noise=MUCH).bag_size
        for rho in (0.0, 1.0, None)
    }
    assert best == {0.0: 1, 1.0: 5, None: 5}


def test_bag_loss_and_easy_llp_never_gain_by_larger_bags() -> None:
    ks = np.arange(1, 20)
    for sum_noise in (0.0, 1.0, MUCH):
        known = {"ratio": 20.0, "signal": 1.0, "noise": 0.5 + sum_noise / ks}
        assert (np.diff(asymptotic_risk(ks, 0.0, **known).total) > 0).all()
        assert (np.diff(easy_llp_risk(ks, **known).total) > 0).all()


@pytest.mark.parametrize(("k", "rho"), [(2, 0.0875), (4, 0.0638), (8, 0.0600)])
def test_the_best_rho_agrees_with_another_search(k: int, rho: float) -> None:
    assert optimal_rho(k, ratio=10, signal=2, noise=1) == pytest.approx(rho, abs=5e-5)


@pytest.mark.parametrize("psi", [1.2, 3.0, 30.0])
@pytest.mark.parametrize("snr", [0.0, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("k", [2, 16, 100])
def test_the_best_rho_is_best(psi: float, snr: float, k: int) -> None:
    best = optimal_rho(k, ratio=psi, signal=snr, noise=1)
    grid = np.r_[0.0, np.geomspace(1e-9, 1, 3000)]
    found, others = (
        asymptotic_risk(k, rho, ratio=psi, signal=snr, noise=1).total for rho in (best, grid)
    )
    assert found <= others.min() * (1 + 1e-6)


def test_bags_of_one_with_ridge_beat_the_best_size_and_rho() -> None:
    for epsilon in (1.0, 4.0):
        noise = laplace_variance(epsilon, 9.4092)
        best = optimal_bag_size(range(1, 60), ratio=20, signal=1, noise=0.5, sum_noise=noise)
        assert ridge_risk(1, ratio=20, signal=1, noise=0.5 + noise) < best.risk


def test_of_equals_the_smallest_size_is_chosen() -> None:
    best = optimal_bag_size([8, 2, 4], 1.0, ratio=20, signal=0, noise=0)
    assert best == (2, 1.0, 0.0)
