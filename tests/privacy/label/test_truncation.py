"""Truncation: within the range, with the share it moved and the bias it is known to have."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import norm

from fedsim.privacy.label import Truncation


def test_targets_are_moved_to_the_nearer_end() -> None:
    inside, share = Truncation(low=-1, high=2).truncate(np.array([-3.0, -1.0, 0.0, 2.0, 2.5]))
    np.testing.assert_array_equal(inside, [-1, -1, 0, 2, 2])
    assert share == pytest.approx(0.4)
    assert Truncation(low=0, high=1).truncate(np.zeros(0))[1] == 0.0


def test_the_bias_is_that_of_the_docstring() -> None:
    y = np.random.default_rng(0).normal(size=200_000)
    low, high = -1.0, 0.5
    inside, share = Truncation(low=low, high=high).truncate(y)

    def excess(end: float) -> float:
        """Return E[(y - end)+] of a standard normal y."""
        return float(norm.pdf(end) - end * norm.sf(end))

    assert inside.mean() - y.mean() == pytest.approx(excess(-low) - excess(high), abs=0.005)
    assert abs(excess(-low) - excess(high)) > 0.1
    assert share == pytest.approx(norm.cdf(low) + norm.sf(high), abs=0.005)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_a_range_that_is_none_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValidationError):
        Truncation(low=low, high=high)
