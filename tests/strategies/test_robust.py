"""Rules against outliers: each against a direct implementation, and under a large outlier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import trim_mean

from strategies import (
    CoordinateMedian,
    GeometricMedian,
    Krum,
    Strategy,
    TrimmedMean,
    WeightedMean,
)

Array = NDArray[np.float64]


def aggregate(rule: Strategy, G: Array, counts: Array | None = None) -> Array:
    weights = torch.from_numpy(np.ones(len(G)) if counts is None else counts)
    found: Array = rule.aggregate({"w": torch.from_numpy(G)}, weights, {})[0]["w"].numpy()
    return found


def draw(seed: int, m: int = 9, *shape: int) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, *(shape or (20,)))) + rng.normal(size=shape or (20,))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_byzantine", [0, 2, 3])
@pytest.mark.parametrize("num_selected", [1, 4, 9, 30])
def test_krum_takes_those_with_the_closest_neighbours(
    seed: int, num_byzantine: int, num_selected: int
) -> None:
    G, counts = draw(seed), np.arange(1.0, 10.0)
    scores = []
    for i in range(9):
        distances = sorted(float(((G[i] - G[j]) ** 2).sum()) for j in range(9) if j != i)
        scores.append(sum(distances[: 9 - num_byzantine - 2]))
    chosen = np.argsort(scores)[:num_selected]
    for weights in ("uniform", "examples"):
        rule = Krum(num_byzantine=num_byzantine, num_selected=num_selected, weights=weights)
        share = counts[chosen] if weights == "examples" else np.ones(len(chosen))
        np.testing.assert_allclose(
            aggregate(rule, G, counts), np.average(G[chosen], axis=0, weights=share), rtol=1e-12
        )


def test_krum_chooses_one_site_for_all_layers_or_for_each() -> None:
    updates = {"a": torch.from_numpy(draw(0)), "b": torch.from_numpy(draw(3))}
    counts = torch.ones(9, dtype=torch.float64)

    def chosen(per: str, name: str) -> int:
        found = Krum(per=per).aggregate(updates, counts, {})[0][name]
        return int((updates[name] - found).norm(dim=1).argmin())

    assert chosen("model", "a") == chosen("model", "b")
    assert chosen("layer", "a") != chosen("layer", "b")


@pytest.mark.parametrize("sites", [1, 2, 3])
def test_krum_of_few_sites_scores_by_the_closest(sites: int) -> None:
    G = np.array([[1.0], [1.5], [9.0]])[:sites]
    assert aggregate(Krum(num_byzantine=5), G) == pytest.approx(1.0)


def test_krum_by_examples_passes_over_sites_without_any() -> None:
    G = np.array([[1.0], [1.1], [1.3], [9.0]])
    rule = Krum(weights="examples")
    assert aggregate(rule, G, np.array([0.0, 5.0, 5.0, 5.0])) == pytest.approx(1.1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("by_examples", [False, True])
def test_the_geometric_median_has_the_least_sum_of_distances(seed: int, by_examples: bool) -> None:
    G = draw(seed, 7, 4)
    counts = np.arange(1.0, 8.0) if by_examples else np.ones(7)

    def total(v: Array) -> float:
        return float(counts @ np.linalg.norm(G - v, axis=1))

    theirs = minimize(total, G.mean(axis=0), method="BFGS", options={"gtol": 1e-10})
    found = aggregate(GeometricMedian(), G, counts)
    np.testing.assert_allclose(found, theirs.x, rtol=0, atol=1e-5)
    assert total(found) <= total(theirs.x) * (1 + 1e-12)


def test_the_geometric_median_follows_the_published_algorithm() -> None:
    G, nu = draw(0, 6, 3), 0.5
    p, lengths = np.full(6, 1 / 6), np.sort(np.linalg.norm(G, axis=1))
    v = p @ G
    for _ in range(500):
        beta = p / np.maximum(nu * lengths[3], np.linalg.norm(G - v, axis=1))
        v = beta @ G / beta.sum()
    np.testing.assert_allclose(aggregate(GeometricMedian(smoothing=nu), G), v, rtol=1e-9)


def test_the_geometric_median_of_a_majority_is_what_it_says() -> None:
    g = np.random.default_rng(0).normal(size=20)
    G = np.stack([g, g, g, -9 * g, np.arange(20.0)])
    np.testing.assert_allclose(aggregate(GeometricMedian(), G), g, rtol=0, atol=1e-4)


def test_the_geometric_median_is_zero_where_most_do_not_move() -> None:
    G = np.concatenate([np.zeros((3, 5)), 1e9 * draw(0, 2, 5)])
    assert not aggregate(GeometricMedian(), G).any()
    np.testing.assert_allclose(aggregate(GeometricMedian(), G[2:4]), G[3] / 2, rtol=1e-12)


@pytest.mark.parametrize("sites", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("shape", [(), (1,), (5, 3)])
def test_median_and_trimmed_mean_are_those_of_numpy_and_scipy(
    sites: int, shape: tuple[int, ...]
) -> None:
    G = np.random.default_rng(sites).normal(size=(sites, *shape))
    np.testing.assert_array_equal(aggregate(CoordinateMedian(), G), np.median(G, axis=0))
    for beta in (0.0, 0.1, 0.25, 0.49):
        np.testing.assert_allclose(
            aggregate(TrimmedMean(beta=beta), G), trim_mean(G, beta, axis=0), rtol=1e-12
        )


def test_chunks_of_coordinates_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    G = draw(0, 5, 11, 5)
    whole = aggregate(CoordinateMedian(), G), aggregate(TrimmedMean(), G)
    monkeypatch.setattr("strategies.stack.CHUNK_ELEMENTS", 10)
    np.testing.assert_array_equal(aggregate(CoordinateMedian(), G), whole[0])
    np.testing.assert_array_equal(aggregate(TrimmedMean(), G), whole[1])


@pytest.mark.parametrize(
    "rule",
    [
        Krum(num_byzantine=2),
        Krum(num_byzantine=2, num_selected=5),
        GeometricMedian(),
        CoordinateMedian(),
        TrimmedMean(beta=0.25),
    ],
    ids=repr,
)
@pytest.mark.parametrize("size", [1e2, 1e6, 1e12])
def test_stays_near_the_honest_mean_where_the_mean_is_carried_off(
    rule: Strategy, size: float
) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=20) + 0.1 * rng.normal(size=(7, 20))
    G = np.concatenate([honest, size * rng.normal(size=(2, 20))])

    def error(found: Array) -> float:
        return float(np.linalg.norm(found - honest.mean(axis=0)))

    spread = float(np.linalg.norm(honest - honest.mean(axis=0), axis=1).max())
    assert error(aggregate(rule, G)) <= 1.01 * spread
    assert error(aggregate(WeightedMean(), G)) > 30 * spread
