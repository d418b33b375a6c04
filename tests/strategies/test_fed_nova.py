"""FedNova against its formula and against a quadratic problem whose optimum is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from strategies import FedNova, WeightedMean


def aggregate(
    rule: FedNova, updates: list[float], counts: list[float], steps: list[float]
) -> float:
    stack = {"w": torch.tensor(updates, dtype=torch.float64)[:, None]}
    told = {"num-steps": torch.tensor(steps, dtype=torch.float64)}
    weights = torch.tensor(counts, dtype=torch.float64)
    return float(rule.aggregate(stack, weights, {}, told)[0]["w"])


def test_agrees_with_the_formula() -> None:
    updates, counts, steps = [1.0, -2.0, 5.0], [10.0, 30.0, 60.0], [2.0, 7.0, 1.0]
    p = np.array(counts) / 100
    expected = (p * steps).sum() * (p * np.array(updates) / steps).sum()
    assert aggregate(FedNova(), updates, counts, steps) == pytest.approx(expected, rel=1e-14)


def test_momentum_counts_steps_by_the_weights_of_gradients() -> None:
    rho, steps = 0.9, 6
    # with v = rho v + g and w = w - v, gradient j of s is counted 1 + rho + ... + rho^(s - 1 - j)
    by_hand = sum(rho**power for j in range(steps) for power in range(steps - j))
    assert FedNova(momentum=rho).effective_steps(steps) == pytest.approx(by_hand, rel=1e-12)
    assert FedNova().effective_steps(steps) == steps
    assert FedNova(momentum=0.5).effective_steps(1) == 1


def test_equal_steps_are_the_weighted_mean() -> None:
    updates, counts = [1.0, -2.0, 5.0], [10.0, 30.0, 61.0]
    stack = {"w": torch.tensor(updates, dtype=torch.float64)[:, None]}
    mean = WeightedMean().aggregate(stack, torch.tensor(counts, dtype=torch.float64), {})[0]["w"]
    for rule in (FedNova(), FedNova(momentum=0.8)):
        assert aggregate(rule, updates, counts, [4, 4, 4]) == pytest.approx(float(mean), rel=1e-14)
        assert aggregate(rule, updates, counts, [4, 4, 5]) != pytest.approx(float(mean), rel=1e-3)


def test_unequal_work_does_not_move_the_optimum() -> None:
    """Sites minimise (w - c)^2 / 2 with few small steps; the sum has its optimum at the mean c."""
    centres, counts, steps, rate = [0.0, 1.0], [1.0, 1.0], [1, 20], 0.001

    def settle(normalised: bool) -> float:
        w = 0.3
        for _ in range(4000):
            updates = []
            for centre, num in zip(centres, steps, strict=True):
                local = w
                for _ in range(num):
                    local -= rate * (local - centre)
                updates.append(local - w)
            if normalised:
                w += aggregate(FedNova(), updates, counts, [float(s) for s in steps])
            else:
                w += sum(updates) / 2
        return w

    assert settle(normalised=True) == pytest.approx(0.5, abs=0.01)
    assert settle(normalised=False) == pytest.approx(20 / 21, abs=0.01)  # the inconsistency
