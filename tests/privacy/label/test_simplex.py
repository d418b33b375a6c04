"""Projection onto the simplex: nearest, idempotent, and without a loop over bags."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import bisect, minimize

from fedsim.privacy.label import project

responses = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 6)),
    elements=st.floats(-1e6, 1e6) | st.floats(-1, 2),
)


@given(responses)
def test_what_is_projected_is_on_the_simplex_and_stays(points: NDArray[np.float64]) -> None:
    found = project(points)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(project(found), found, rtol=0, atol=1e-12)


@given(responses)
def test_it_is_the_shift_whose_positive_parts_sum_to_one(points: NDArray[np.float64]) -> None:
    points = points - points.max(axis=1, keepdims=True)  # changes nothing but rounding
    for point, found in zip(points, project(points), strict=True):
        shift = bisect(lambda t, v=point: np.maximum(v - t, 0).sum() - 1, -1.0, 0.0, xtol=1e-14)
        np.testing.assert_allclose(found, np.maximum(point - shift, 0), rtol=0, atol=1e-12)


def test_no_quadratic_programme_finds_a_nearer_point() -> None:
    points = np.random.default_rng(0).normal(0.3, 0.5, (20, 4))
    for point, found in zip(points, project(points), strict=True):
        nearest = minimize(
            lambda p, v=point: ((p - v) ** 2).sum(),
            np.full(4, 0.25),
            jac=lambda p, v=point: 2 * (p - v),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(found, nearest.x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1e9, 1e300])
def test_large_noise_still_gives_proportions(size: float) -> None:
    points = np.array([[1.0, -1.0, 0.5], [1.0, 1.0, -1.0]]) * size
    np.testing.assert_array_equal(project(points), [[1, 0, 0], [0.5, 0.5, 0]])
