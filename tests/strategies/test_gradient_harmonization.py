"""Harmonized gradients agree with projections of the raw updates, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from strategies import GradientHarmonization, WeightedMean

Array = NDArray[np.float64]


def aggregate(G: Array, counts: Any = None, **settings: Any) -> Array:
    weights = torch.as_tensor(np.ones(len(G)) if counts is None else counts)
    updates = {"w": torch.from_numpy(G)}
    found: Array = GradientHarmonization(**settings).aggregate(updates, weights, {})[0]["w"].numpy()
    return found


def by_projection(G: Array, p: Array, form: str) -> Array:
    """Return the aggregate from vectors alone, site by site."""
    total = np.zeros(G.shape[1])
    for i, g in enumerate(G):
        norms = np.linalg.norm(G, axis=1)
        others = sorted((j for j in range(len(G)) if j != i), key=lambda j: g @ G[j] / norms[j])
        projected = g.copy()
        for j in others:
            tested = g if form == "fedgh" else projected
            if tested @ G[j] < 0:
                projected = projected - (projected @ G[j]) / (G[j] @ G[j]) * G[j]
        total += p[i] * projected
    return total


@pytest.mark.parametrize("form", ["fedgh", "pcgrad"])
@pytest.mark.parametrize("sites", [1, 2, 5, 12])
@pytest.mark.parametrize("d", [2, 40])
@pytest.mark.parametrize("common", [0.0, 0.3])
def test_agrees_with_projections(form: str, sites: int, d: int, common: float) -> None:
    rng = np.random.default_rng(sites)
    G = rng.normal(size=(sites, d)) + common * rng.normal(size=d)
    counts = rng.uniform(1, 9, size=sites)
    np.testing.assert_allclose(
        aggregate(G, counts, form=form),
        by_projection(G, counts / counts.sum(), form),
        rtol=0,
        atol=1e-12 * float(np.linalg.norm(G)),
    )


@pytest.mark.parametrize("form", ["fedgh", "pcgrad"])
def test_without_conflict_it_is_the_mean(form: str) -> None:
    G = np.abs(np.random.default_rng(0).normal(size=(4, 9)))
    counts = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    mean = WeightedMean().aggregate({"w": torch.from_numpy(G)}, counts, {})[0]["w"]
    np.testing.assert_allclose(aggregate(G, counts, form=form), mean, rtol=1e-14)


@pytest.mark.parametrize("form", ["fedgh", "pcgrad"])
def test_two_in_conflict_lose_what_they_fight_over(form: str) -> None:
    g, h = np.array([1.0, 0.0]), np.array([-1.0, 1.0])
    expected = (np.array([0.5, 0.5]) + np.array([0.0, 1.0])) / 2
    np.testing.assert_allclose(aggregate(np.stack([g, h]), form=form), expected, rtol=1e-15)
    np.testing.assert_allclose(aggregate(np.stack([g, -g]), form=form), 0, atol=1e-15)


def test_the_forms_differ_in_whom_they_test() -> None:
    # g_0 conflicts with both others as received; once it is orthogonal to g_1 it helps g_2
    G = np.array([[1.0, 0.0, 0.0], [-2.0, 1.0, 0.0], [-0.1, 1.0, 0.0]])
    assert np.linalg.norm(aggregate(G, form="fedgh") - aggregate(G, form="pcgrad")) > 0.01


@pytest.mark.parametrize("form", ["fedgh", "pcgrad"])
def test_a_site_without_update_conflicts_with_none(form: str) -> None:
    G = np.random.default_rng(0).normal(size=(4, 9))
    G[2] = 0
    rest = aggregate(G[[0, 1, 3]], form=form)
    np.testing.assert_allclose(aggregate(G, form=form), 0.75 * rest, rtol=1e-12)
