"""Principal gradients agree with the published code and with the definition, and stay finite."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from strategies import PrincipalGradient
from strategies.gram import gram
from strategies.principal_gradient import UPDATE_NOISE, coefficients, debiased

Array = NDArray[np.float64]

ORACLES = [
    "pg_m12_k10_rankdef",
    "pg_m1_k10",
    "pg_m2_k08",
    "pg_m4_k08_scalar",
    "pg_m5_k06_conflict",
    "pg_m5_k08_conv",
    "pg_m5_k08_first_round",
    "pg_nan_one_zero_client",
]


def aggregate(
    stack: Array | Tensor, *, moved: bool = True, counts: Any = None, **settings: Any
) -> Array:
    """Return the aggregate of one layer by a strategy with the given settings."""
    stack = torch.as_tensor(stack)
    counts = torch.as_tensor(np.ones(len(stack)) if counts is None else counts)
    result, _ = PrincipalGradient(**settings).aggregate(
        {"w": stack}, counts, {"moved": {"w": moved}}
    )
    array: Array = result["w"].numpy()
    return array


def by_projection(G: Array, keep: float) -> Array:
    """Return the aggregate as the method defines it: projections on directions, no Gram matrix.

    Every update is projected on each of the leading right singular vectors of G; a projection is
    given the length of the update times the share of that direction in the spectrum; sites are
    averaged.

    Args:
        G: updates, (site, element).
        keep: fraction of directions kept.
    """
    m = len(G)
    singular, directions = np.linalg.svd(G, full_matrices=False)[1:]
    s = np.zeros(m)
    s[: len(singular)] = singular**2 / m
    total = np.zeros(G.shape[1])
    for g in G:
        for j in range(min(max(1, int(keep * m)), len(singular))):
            projection = (g @ directions[j]) * directions[j]
            total += s[j] / s.sum() * np.linalg.norm(g) * projection / np.linalg.norm(projection)
    return total / m


def far_from_ties(G: Array) -> bool:
    """Say whether no eigenvalues are close and no site is nearly orthogonal to a direction."""
    left, singular, _ = np.linalg.svd(G, full_matrices=False)
    s = singular**2 / (singular**2).sum()
    return bool((np.abs(np.diff(s)) > 1e-4).all() and (np.abs(left) > 1e-6).all())


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_the_published_code(oracles: Path, name: str) -> None:
    oracle = np.load(oracles / "fedld" / f"{name}.npz")
    moved = str(oracle["history"]) == "nonzero"
    for layer in range(int(oracle["n_layers"])):
        stack, expected, c = (
            oracle[f"layer{layer}__{key}"] for key in ("updates", "expected", "gram_coeffs")
        )
        if np.isnan(expected).any():
            expected = np.tensordot(c, stack, axes=1)
        actual = aggregate(stack, moved=moved, keep=float(oracle["k_proportion"]))
        assert actual.shape == expected.shape
        assert np.linalg.norm(actual - expected) <= 1e-12 * np.linalg.norm(expected)


def test_every_oracle_is_listed(oracles: Path) -> None:
    assert sorted(path.stem for path in (oracles / "fedld").glob("pg_*.npz")) == sorted(ORACLES)


@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(1, 12),
    d=st.integers(2, 60),
    common=st.floats(0, 3),
    spread=st.floats(0, 1),
    keep=st.sampled_from([0.4, 0.6, 0.8, 0.9, 1.0]),
)
@settings(deadline=None)
def test_agrees_with_the_definition(
    seed: int, m: int, d: int, common: float, spread: float, keep: float
) -> None:
    rng = np.random.default_rng(seed)
    norms = np.exp(spread * rng.normal(size=(m, 1)))
    G = norms * (rng.normal(size=(m, d)) + common * rng.normal(size=d))
    assume(far_from_ties(G))
    expected = by_projection(G, keep)
    np.testing.assert_allclose(
        aggregate(G, keep=keep), expected, rtol=0, atol=1e-10 * float(np.linalg.norm(G))
    )


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 8), keep=st.floats(0.1, 1))
@settings(deadline=None)
def test_equal_weights_are_the_uniform_form(seed: int, m: int, keep: float) -> None:
    G = np.random.default_rng(seed).normal(size=(m, 30))
    assume(far_from_ties(G))
    np.testing.assert_allclose(
        aggregate(G, keep=keep, weights="examples", counts=np.full(m, 25.0)),
        aggregate(G, keep=keep, weights="uniform", counts=np.arange(1.0, m + 1)),
        rtol=0,
        atol=1e-10,
    )


def test_a_weight_of_two_is_two_sites_alike() -> None:
    G = np.random.default_rng(0).normal(size=(3, 30))
    np.testing.assert_allclose(
        aggregate(G, keep=1.0, weights="examples", counts=[1.0, 2.0, 1.0]),
        aggregate(G[[0, 1, 1, 2]], keep=1.0, weights="uniform"),
        rtol=1e-10,
    )


def test_a_site_without_examples_has_no_say() -> None:
    G = np.random.default_rng(0).normal(size=(4, 30))
    np.testing.assert_allclose(
        aggregate(G, keep=1.0, weights="examples", counts=[5.0, 0.0, 9.0, 2.0]),
        aggregate(G[[0, 2, 3]], keep=1.0, weights="examples", counts=[5.0, 9.0, 2.0]),
        rtol=1e-10,
    )


def test_float32_follows_float64() -> None:
    G = np.random.default_rng(0).normal(size=(20, 50_000)) + 1
    exact = aggregate(G.astype(np.float32).astype(np.float64))
    error = np.linalg.norm(aggregate(G.astype(np.float32)) - exact)
    assert error <= 1e-5 * np.linalg.norm(exact)


def test_identical_updates_are_returned() -> None:
    g = np.random.default_rng(0).normal(size=(1, 9))
    np.testing.assert_allclose(aggregate(np.repeat(g, 5, axis=0)), g[0], rtol=1e-12)


def test_opposite_updates_cancel() -> None:
    g = np.random.default_rng(0).normal(size=9)
    np.testing.assert_allclose(aggregate(np.stack([g, -g])), 0, atol=1e-15)


def test_one_site_and_every_direction_is_the_update() -> None:
    g = np.random.default_rng(0).normal(size=(1, 9))
    np.testing.assert_allclose(aggregate(g, keep=1.0), g[0], rtol=1e-15)


def test_a_site_orthogonal_to_a_direction_does_not_vote_there() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    norms = np.array([3.0, 2.0, 1.0])
    G = norms[:, None] * rotation
    expected = (norms[:, None] ** 3 * rotation)[:2].sum(axis=0) / (3 * (norms**2).sum())
    order = [2, 0, 1]
    np.testing.assert_allclose(aggregate(G, keep=0.8), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(aggregate(G[order], keep=0.8), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("moved", [False, True])
def test_a_zero_layer_stays_zero(moved: bool) -> None:
    assert not aggregate(np.zeros((5, 3, 2)), moved=moved).any()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_takes_the_mean(shape: tuple[int, ...]) -> None:
    stack = np.array([1.0, 2.0, 6.0]).reshape(3, *shape)
    assert aggregate(stack) == pytest.approx(3.0)
    assert aggregate(stack, weights="examples", counts=[2.0, 1.0, 1.0]) == pytest.approx(2.5)


def test_a_layer_takes_the_mean_until_it_has_moved() -> None:
    G = np.random.default_rng(0).normal(size=(3, 4))
    moving, still = torch.from_numpy(G), torch.zeros(3, 4, dtype=torch.float64)
    strategy, counts = PrincipalGradient(), torch.ones(3, dtype=torch.float64)
    state = strategy.init({"a": moving[0], "b": still[0]}, len(moving))

    first, state = strategy.aggregate({"a": moving, "b": still}, counts, state)
    assert state == {"moved": {"a": True, "b": False}}
    np.testing.assert_allclose(first["a"], G.mean(axis=0))

    second, state = strategy.aggregate({"a": still, "b": moving}, counts, state)
    assert state == {"moved": {"a": True, "b": True}}
    assert not second["a"].any()
    np.testing.assert_allclose(second["b"], G.mean(axis=0))

    third, _ = strategy.aggregate({"a": moving, "b": moving}, counts, state)
    np.testing.assert_allclose(third["a"], by_projection(G, 0.8))


def test_at_least_one_direction_is_kept_unless_allowed() -> None:
    G = np.random.default_rng(0).normal(size=(1, 6))
    np.testing.assert_allclose(aggregate(G, keep=0.8), G[0])
    assert not aggregate(G, keep=0.8, allow_no_direction=True).any()
    assert aggregate(G, keep=0.8, allow_no_direction=True, moved=False).any()


def test_inner_products_without_the_noise_are_right_in_expectation() -> None:
    """2,000 draws of noise as long as the updates, half as long, and none."""
    rng = np.random.default_rng(0)
    G, stds = rng.normal(size=(3, 400)), np.array([0.0, 0.5, 1.0])
    noise = torch.from_numpy(400 * stds**2)
    draws = np.stack(
        [
            debiased(gram(torch.from_numpy(G + stds[:, None] * rng.normal(size=G.shape))), noise)
            for _ in range(2000)
        ]
    )
    error = draws.mean(axis=0) - G @ G.T
    assert (np.abs(error) <= 4.5 * draws.std(axis=0) / np.sqrt(2000) + 1e-9).all()
    assert draws[:, 2, 2].min() > 0  # else zero took the place of what is negative


def test_lengths_without_the_noise_give_nearly_the_coefficients_of_clean_updates() -> None:
    rng = np.random.default_rng(1)
    d, p = 100_000, torch.full((5,), 0.2, dtype=torch.float64)
    G = rng.normal(size=(5, d)) / np.sqrt(d) + 0.5 * rng.normal(size=(1, d)) / np.sqrt(d)
    std = np.sqrt(3 / d)
    noisy = gram(torch.from_numpy(G + std * rng.normal(size=G.shape)))
    clean = coefficients(gram(torch.from_numpy(G)), p, 1)
    found = coefficients(debiased(noisy, torch.full_like(p, d * std**2)), p, 1)
    left = coefficients(noisy, p, 1)
    assert float((found - clean).norm() / clean.norm()) < 0.05
    assert float((left - clean).norm() / clean.norm()) > 0.15


def test_no_noise_to_take_out_changes_no_bit_and_all_noise_stops_a_layer() -> None:
    stack = torch.from_numpy(np.random.default_rng(2).normal(size=(4, 3, 5)))
    state, counts = {"moved": {"w": True}}, torch.ones(4, dtype=torch.float64)
    plain, _ = PrincipalGradient().aggregate({"w": stack}, counts, state)
    strategy = PrincipalGradient(debias=True)
    assert strategy.reports == (UPDATE_NOISE,)

    def with_noise(std: float) -> Tensor:
        told = {UPDATE_NOISE: torch.full((4,), std, dtype=torch.float64)}
        return strategy.aggregate({"w": stack}, counts, state, told)[0]["w"]

    assert torch.equal(with_noise(0.0), plain["w"])
    assert not with_noise(100.0).any()


def test_coefficients_do_not_depend_on_scale() -> None:
    K = gram(torch.from_numpy(np.random.default_rng(0).normal(size=(5, 20))))
    p = torch.full((5,), 0.2, dtype=torch.float64)
    torch.testing.assert_close(coefficients(K * 1e-12, p, 4), coefficients(K, p, 4))


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.1, float("nan")])
def test_a_fraction_is_a_fraction(keep: float) -> None:
    with pytest.raises(ValidationError, match="keep"):
        PrincipalGradient(keep=keep)
