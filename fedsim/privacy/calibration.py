"""How much noise it takes to keep a promise."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import brentq

from fedsim.errors import InputError
from fedsim.privacy.accounting import COARSE, epsilon, rough_epsilon
from fedsim.privacy.events import History

NOISE_STEP = 1e-3
"""Noise multipliers are whole multiples of it, rounded up."""
LARGEST = 1e4


def least_noise(made: Callable[[float], History], target: float, delta: float) -> float:
    """Return the least noise multiplier, a multiple of `NOISE_STEP`, that keeps epsilon to target.

    Found at the coarse interval, so the final figure may be a little below the target.

    Args:
        made: noise multiplier -> all that will be released with it.
        target: epsilon, at most.
        delta: at which.

    Raises:
        InputError: if no noise is enough.
    """

    def excess(log_noise: float) -> float:
        return math.log(epsilon(made(math.exp(log_noise)), delta, COARSE) / target)

    high = 1.0
    while rough_epsilon(made(high), delta) > target:
        high *= 2
        if high > LARGEST:
            raise InputError(
                f"no noise multiplier up to {LARGEST:g} keeps epsilon to {target:g} at delta "
                f"{delta:g}: train for fewer rounds, with smaller batches, or allow more"
            )
    low = high
    while epsilon(made(low), delta, COARSE) <= target:
        low /= 2
    root = brentq(excess, math.log(low), math.log(2 * low), xtol=NOISE_STEP / high / 4)
    steps = max(1, round(math.exp(root) / NOISE_STEP) - 1)
    while epsilon(made(steps * NOISE_STEP), delta, COARSE) > target:
        steps += 1
    return steps * NOISE_STEP
