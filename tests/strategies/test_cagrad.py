"""CAGrad is the direction in the ball around the mean that serves the worst-off site best."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from strategies import CAGrad, WeightedMean

Array = NDArray[np.float64]
COUNTS = np.array([10.0, 30.0, 25.0, 5.0])
P = COUNTS / COUNTS.sum()


def aggregate(G: Array, c: float, counts: Array = COUNTS) -> Array:
    """Return d as the paper has it, without the division by 1 + c."""
    updates, weights = {"w": torch.from_numpy(G)}, torch.from_numpy(counts)
    found: Array = CAGrad(c=c).aggregate(updates, weights, {})[0]["w"].numpy() * (1 + c)
    return found


def draw(seed: int, d: int = 6, common: float = 0.5) -> Array:
    rng = np.random.default_rng(seed)
    return np.exp(0.5 * rng.normal(size=(4, 1))) * (
        rng.normal(size=(4, d)) + common * rng.normal(size=d)
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("c", [0.2, 0.5, 0.9, 1.5])
def test_serves_the_worst_site_best_by_scipy(seed: int, c: float) -> None:
    """The primal problem: maximise t with <g_i, d> >= t inside the ball."""
    G = draw(seed)
    mean = P @ G
    radius = c * np.linalg.norm(mean)
    theirs = minimize(
        lambda x: -x[-1],
        np.append(mean, (G @ mean).min()),
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": lambda x: G @ x[:-1] - x[-1]},
            {"type": "ineq", "fun": lambda x: radius**2 - (x[:-1] - mean) @ (x[:-1] - mean)},
        ],
        options={"ftol": 1e-12, "maxiter": 500},
    )
    d = aggregate(G, c)
    assert np.linalg.norm(d - mean) <= radius * (1 + 1e-12)
    assert (G @ d).min() == pytest.approx(-theirs.fun, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("c", [0.4, 0.9])
def test_there_is_no_gap_to_the_dual(seed: int, c: float) -> None:
    """For every w in the simplex min_i <g_i, d> <= <g_w, g_0> + c ||g_0|| ||g_w||."""
    G = draw(seed, d=40)
    mean = P @ G
    worst = (G @ aggregate(G, c)).min()
    rng = np.random.default_rng(seed)
    for w in rng.dirichlet(np.ones(4), size=200):
        g_w = w @ G
        bound = g_w @ mean + c * np.linalg.norm(mean) * np.linalg.norm(g_w)
        assert worst <= bound + 1e-10


def test_no_radius_is_the_weighted_mean() -> None:
    G = draw(0)
    mean, _ = WeightedMean().aggregate({"w": torch.from_numpy(G)}, torch.from_numpy(COUNTS), {})
    np.testing.assert_allclose(aggregate(G, 0.0), mean["w"], rtol=1e-14)


def test_identical_updates_are_returned() -> None:
    g = np.random.default_rng(0).normal(size=(1, 9))
    np.testing.assert_allclose(aggregate(np.repeat(g, 4, axis=0), 0.7) / 1.7, g[0], rtol=1e-12)


def test_two_orthogonal_sites_of_one_length_keep_their_mean_direction() -> None:
    found = aggregate(np.eye(2), 0.5, np.ones(2))
    np.testing.assert_allclose(found, [0.75, 0.75], rtol=1e-12)


def test_where_nothing_serves_all_it_is_the_mean() -> None:
    g = np.random.default_rng(0).normal(size=9)
    G = np.stack([3 * g, -g, g, g])  # with c >= 1 the best of the worst is not to move
    np.testing.assert_allclose(aggregate(G, 2.0), P @ G, rtol=1e-9)
    np.testing.assert_allclose(aggregate(np.stack([g, -g]), 0.5, np.ones(2)), 0, atol=1e-14)
