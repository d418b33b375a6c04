"""MGDA is the point of least norm, and what that promises holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from strategies import Mgda, WeightedMean

Array = NDArray[np.float64]
COUNTS = np.array([10.0, 30.0, 25.0, 5.0, 30.0])


def aggregate(G: Array, counts: Array = COUNTS, **settings: Any) -> Array:
    updates, weights = {"w": torch.from_numpy(G)}, torch.from_numpy(counts)
    found: Array = Mgda(**settings).aggregate(updates, weights, {})[0]["w"].numpy()
    return found


def draw(seed: int, m: int = 5, d: int = 30) -> Array:
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(size=(m, 1))) * (rng.normal(size=(m, d)) + rng.normal(size=d))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
@pytest.mark.parametrize("normalise", [False, True])
def test_is_the_shortest_sum_by_scipy(seed: int, epsilon: float, normalise: bool) -> None:
    G, p = draw(seed), COUNTS / COUNTS.sum()
    norms = np.linalg.norm(G, axis=1)
    rows = G / norms[:, None] * (p @ norms) if normalise else G
    theirs = minimize(
        lambda w: (rows.T @ w) @ (rows.T @ w),
        p,
        jac=lambda w: 2 * rows @ (rows.T @ w),
        method="SLSQP",
        bounds=[(max(0, share - epsilon), min(1, share + epsilon)) for share in p],
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    expected = rows.T @ theirs.x
    found = aggregate(G, epsilon=epsilon, normalise=normalise)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.linalg.norm(expected))
    assert np.linalg.norm(found) <= np.linalg.norm(expected) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_helps_every_site_by_the_same_or_more(seed: int) -> None:
    G = draw(seed)
    d = aggregate(G)
    assert (G @ d >= d @ d * (1 - 1e-9)).all()


def test_orthogonal_updates_are_weighed_by_their_inverse_squares() -> None:
    norms = np.array([1.0, 2.0, 4.0])
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    weights = norms**-2 / (norms**-2).sum()
    np.testing.assert_allclose(
        aggregate(norms[:, None] * rotation, np.ones(3)), (weights * norms) @ rotation, rtol=1e-12
    )


def test_no_room_is_the_weighted_mean() -> None:
    G = draw(0)
    mean, _ = WeightedMean().aggregate({"w": torch.from_numpy(G)}, torch.from_numpy(COUNTS), {})
    np.testing.assert_allclose(aggregate(G, epsilon=0.0), mean["w"], rtol=1e-12)


def test_normalised_updates_have_one_length() -> None:
    G = draw(1)
    norms = np.linalg.norm(G, axis=1)
    p = COUNTS / COUNTS.sum()
    np.testing.assert_allclose(
        aggregate(G, normalise=True), aggregate(G / norms[:, None]) * (p @ norms), rtol=1e-10
    )


def test_stops_where_sites_are_opposed() -> None:
    g = np.random.default_rng(0).normal(size=9)
    np.testing.assert_allclose(aggregate(np.stack([g, -2 * g]), np.ones(2)), 0, atol=1e-14)
    assert not aggregate(np.stack([g, 0 * g]), np.ones(2), normalise=True).any()


def test_identical_updates_are_returned() -> None:
    g = np.random.default_rng(0).normal(size=(1, 9))
    np.testing.assert_allclose(aggregate(np.repeat(g, 5, axis=0)), g[0], rtol=1e-12)
