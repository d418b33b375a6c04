"""FedExP against its formula on the whole model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from strategies import FedExP, WeightedMean

EXAMPLES = torch.tensor([10.0, 30.0, 60.0], dtype=torch.float64)


def layers(*arrays: object) -> dict[str, torch.Tensor]:
    return {str(n): torch.as_tensor(a, dtype=torch.float64) for n, a in enumerate(arrays)}


@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_agrees_with_the_formula(epsilon: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    weight, bias = scale * rng.normal(size=(3, 4, 2)), scale * rng.normal(size=(3, 5))
    G = np.concatenate([weight.reshape(3, -1), bias], axis=1)
    p = np.array([0.1, 0.3, 0.6])
    mean = p @ G
    eta = max(1, sum(p[k] * G[k] @ G[k] for k in range(3)) / (2 * (mean @ mean + epsilon)))
    found, _ = FedExP(epsilon=epsilon).aggregate(layers(weight, bias), EXAMPLES, {})
    np.testing.assert_allclose(
        np.concatenate([found["0"].numpy().ravel(), found["1"].numpy()]), eta * mean, rtol=1e-13
    )


def test_orthogonal_updates_are_lengthened_by_half_their_number() -> None:
    found, _ = FedExP(epsilon=1e-12).aggregate(layers(np.eye(8)), torch.ones(8), {})
    np.testing.assert_allclose(found["0"], np.full(8, 8 / 2 / 8), rtol=1e-10)


def test_sites_that_agree_get_their_mean() -> None:
    G = np.random.default_rng(0).normal(size=(1, 9)) + 0.1 * np.eye(3, 9)
    mean, _ = WeightedMean().aggregate(layers(G), EXAMPLES, {})
    assert torch.equal(FedExP().aggregate(layers(G), EXAMPLES, {})[0]["0"], mean["0"])


@pytest.mark.parametrize("common", [0.0, 1e-9, 1e-2])
def test_the_step_is_bounded_where_the_mean_vanishes(common: float) -> None:
    g, epsilon = np.random.default_rng(0).normal(size=9), 1e-3
    G = np.stack([g, common - g])
    found, _ = FedExP(epsilon=epsilon).aggregate(layers(G), torch.ones(2), {})
    bound = (G**2).sum() / 2 / (4 * epsilon**0.5)  # of s x / 2 (x^2 + epsilon) over all lengths x
    assert np.linalg.norm(found["0"]) <= bound
    assert bool(found["0"].any()) == bool(common)


def test_reaches_the_optimum_sooner_than_the_mean() -> None:
    """Least squares with one row per site: every site can be satisfied, updates are projections."""
    rng = np.random.default_rng(1)
    A, target = rng.normal(size=(10, 30)), rng.normal(size=30)

    def distance(rule: FedExP | WeightedMean) -> float:
        w = np.zeros(30)
        for _ in range(40):
            residuals = A @ (target - w) / (A**2).sum(axis=1)
            found, _ = rule.aggregate(layers(residuals[:, None] * A), torch.ones(10), {})
            w = w + found["0"].numpy()
        return float(np.linalg.norm(A @ (w - target)))

    assert distance(FedExP(epsilon=1e-9)) < 0.1 * distance(WeightedMean())
