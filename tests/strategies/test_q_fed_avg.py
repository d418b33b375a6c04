"""q-FedAvg against algorithm 2 of its paper, and what fairness it buys."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from strategies import QFedAvg, Strategy, WeightedMean

COUNTS = np.array([10.0, 30.0, 60.0])


def aggregate(
    rule: Strategy, updates: dict[str, np.ndarray], losses: list[float]
) -> dict[str, np.ndarray]:
    stacks = {name: torch.from_numpy(stack) for name, stack in updates.items()}
    told = {"start-loss": torch.tensor(losses, dtype=torch.float64)}
    found, _ = rule.aggregate(stacks, torch.from_numpy(COUNTS), {}, told)
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("uniform", [False, True])
def test_follows_the_published_algorithm(q: float, uniform: bool) -> None:
    rng = np.random.default_rng(0)
    w, local = rng.normal(size=12), rng.normal(size=(3, 12))
    losses, L = [0.3, 1.2, 0.7], 1 / 0.2
    p = np.full(3, 1 / 3) if uniform else COUNTS / COUNTS.sum()
    above, below = np.zeros(12), 0.0
    for k, F in enumerate(losses):
        gradient = L * (w - local[k])
        above += p[k] * F**q * gradient
        below += p[k] * (q * F ** (q - 1) * (gradient**2).sum() + L * F**q)
    expected = w - above / below
    rule = QFedAvg(q=q, learning_rate=0.2, weights="uniform" if uniform else "examples")
    updates = local - w
    found = aggregate(rule, {"a": updates[:, :5], "b": updates[:, 5:].reshape(3, 7, 1)}, losses)
    np.testing.assert_allclose(
        w + np.concatenate([found["a"], found["b"].ravel()]), expected, rtol=1e-8
    )


def test_without_q_it_is_the_weighted_mean() -> None:
    updates = {"w": np.random.default_rng(0).normal(size=(3, 4))}
    mean = aggregate(WeightedMean(), updates, [0.0, 0.0, 0.0])
    found = aggregate(QFedAvg(q=0.0), updates, [0.0, 5.0, 1.0])
    np.testing.assert_allclose(found["w"], mean["w"], rtol=1e-14)


def test_a_loss_of_zero_is_finite() -> None:
    updates = {"w": np.random.default_rng(0).normal(size=(3, 4))}
    assert np.isfinite(aggregate(QFedAvg(q=0.1), updates, [0.0, 0.0, 0.0])["w"]).all()


def test_the_worst_site_gains_by_q() -> None:
    """Two sites pull one number to 0 and 1; the many examples of one win unless fairness counts."""

    def settle(q: float) -> float:
        w, rate = 0.5, 0.05
        for _ in range(3000):
            gradients = np.array([w, w, w - 1])
            losses = [w**2 / 2, w**2 / 2, (w - 1) ** 2 / 2]
            rule = QFedAvg(q=q, learning_rate=rate, weights="uniform")
            w += float(aggregate(rule, {"w": -rate * gradients[:, None]}, losses)["w"][0])
        return max(w**2, (w - 1) ** 2) / 2

    mean, fair, fairer = settle(0.0), settle(1.0), settle(4.0)
    assert mean == pytest.approx((2 / 3) ** 2 / 2, rel=1e-3)
    assert fairer < fair < mean
    assert fairer < 0.15  # at the fairest point both have 0.125
