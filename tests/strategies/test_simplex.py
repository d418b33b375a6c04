"""The pairwise solver finds the minimum that SciPy finds, and proves it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from strategies.simplex import shortest


def problem(seed: int, m: int, d: int, common: float, linear: float) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    norms = np.exp(rng.normal(size=(m, 1)))
    G = torch.from_numpy(norms * (rng.normal(size=(m, d)) + common * rng.normal(size=d)))
    p = torch.from_numpy(rng.dirichlet(np.ones(m)))
    return G, p, linear * G @ torch.from_numpy(rng.normal(size=d))


@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(1, 9),
    extra=st.integers(1, 40),
    common=st.floats(0, 2),
    linear=st.floats(0, 1),
    epsilon=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
)
@settings(deadline=None, max_examples=200)
def test_no_direction_improves(
    seed: int, m: int, extra: int, common: float, linear: float, epsilon: float
) -> None:
    """By convexity F(u) >= F(w) + <F'(w), u - w>, and the best feasible u is found greedily."""
    G, p, b = problem(seed, m, m + extra, common, linear)
    lower, upper = (p - epsilon).clamp(min=0), (p + epsilon).clamp(max=1)
    w = shortest(G @ G.T, b, p, lower, upper)
    assert float(w.sum()) == pytest.approx(1, abs=1e-13)
    assert ((w >= lower) & (w <= upper)).all()
    v = G.T @ w
    slope = (b + G @ v / v.norm()).numpy()
    u, left = lower.numpy().copy(), 1 - float(lower.sum())
    for i in slope.argsort():
        step = min(left, float(upper[i] - lower[i]))
        u[i] += step
        left -= step
    assert slope @ (w.numpy() - u) <= 1e-10 * float(G.norm(dim=1).max())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("epsilon", [0.15, 1.0])
@pytest.mark.parametrize("linear", [0.0, 0.5])
def test_agrees_with_scipy(seed: int, epsilon: float, linear: float) -> None:
    G, p, b = problem(seed, 6, 30, 0.5, linear)
    lower, upper = (p - epsilon).clamp(min=0), (p + epsilon).clamp(max=1)

    def value(w: np.ndarray) -> float:
        return float(b.numpy() @ w + np.linalg.norm(G.numpy().T @ w))

    theirs = minimize(
        value,
        p.numpy(),
        method="SLSQP",
        bounds=list(zip(lower.tolist(), upper.tolist(), strict=True)),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    ours = value(shortest(G @ G.T, b, p, lower, upper).numpy())
    assert ours == pytest.approx(theirs.fun, rel=1e-6)
    assert ours <= theirs.fun + 1e-9


def test_nothing_to_shorten_is_left_as_it_is() -> None:
    p = torch.tensor([0.25, 0.75], dtype=torch.float64)
    zero, one = torch.zeros_like(p), torch.ones_like(p)
    assert torch.equal(shortest(torch.zeros(2, 2).double(), zero, p, zero, one), p)


@pytest.mark.parametrize("seed", range(5))
def test_finds_zero_where_the_hull_holds_it(seed: int) -> None:
    G = torch.from_numpy(np.random.default_rng(seed).normal(size=(12, 3)))
    p = torch.full((12,), 1 / 12, dtype=torch.float64)
    zero, one = torch.zeros_like(p), torch.ones_like(p)
    w = shortest(G @ G.T, zero, p, zero, one)
    assert float((G.T @ w).norm()) <= 1e-9
