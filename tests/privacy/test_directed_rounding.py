"""What is rounded stays a bound, and moves by less than its last digit."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.privacy.directed_rounding import rounded_down, rounded_up


@given(st.floats(1e-6, 1e6))
def test_bounds_stay_bounds(value: float) -> None:
    step = 10.0 ** (math.floor(math.log10(value)) - 2)  # of the last of three digits
    above, below = (float(rounded(value, ".3g")) for rounded in (rounded_up, rounded_down))
    assert value * (1 - 1e-11) <= above < value + 1.001 * step
    assert value * (1 + 1e-11) >= below > value - 1.001 * step


@pytest.mark.parametrize("rounded", [rounded_up, rounded_down])
def test_what_floating_point_is_off_counts_for_nothing(
    rounded: Callable[[float, str], str],
) -> None:
    assert rounded(0.1 + 0.2, ".1f") == "0.3"
    assert rounded(0.07 * 100, ".0f") == "7"
    assert rounded(0.0, ".4g") == "0"
    assert rounded(math.inf, ".4f") == "inf"
