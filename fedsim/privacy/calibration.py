"""How much noise it takes to keep a promise."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import brentq

from fedsim.errors import InputError
from fedsim.privacy.accounting import COARSE, FINE, epsilon, rough_epsilon
from fedsim.privacy.events import History

STEPS = 1000
"""Noise multipliers are whole multiples of 1 / 1000, rounded up."""
LARGEST = 1e4


def least_noise(made: Callable[[float], History], target: float, delta: float) -> float:
    """Return the least noise multiplier, in thousandths, that keeps epsilon to a target.

    Found at the coarse interval, so the final figure may be a little below the target; at the fine
    one for targets below 1, where so coarse a rounding would ask for far more noise than it takes.

    Args:
        made: noise multiplier -> all that will be released with it.
        target: epsilon, at most.
        delta: at which.

    Raises:
        InputError: if no noise is enough.
    """
    interval = COARSE if target >= 1 else FINE

    def excess(log_noise: float) -> float:
        return epsilon(made(math.exp(log_noise)), delta, interval) - target

    high = 1.0
    while high < LARGEST and rough_epsilon(made(high), delta) > target:
        high = min(2 * high, LARGEST)
    if excess(math.log(high)) > 0:
        raise InputError(
            f"no noise multiplier up to {LARGEST:g} keeps epsilon to {target:g} at delta "
            f"{delta:g}: train for fewer rounds, with smaller batches, or allow more"
        )
    low = high
    while excess(math.log(low)) <= 0:
        low /= 2
    root = brentq(excess, math.log(low), math.log(2 * low), xtol=0.25 / STEPS / high)
    steps = max(1, round(math.exp(root) * STEPS) - 1)
    while epsilon(made(steps / STEPS), delta, interval) > target:
        steps += 1
    return steps / STEPS
