"""How much noise it takes to keep a promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from scipy.optimize import brentq

from fedsim.errors import InputError
from fedsim.privacy.accounting import COARSE, FINE, epsilon, rough_epsilon
from fedsim.privacy.events import History, history

STEPS = 1000
"""Noise multipliers are whole multiples of 1 / 1000, rounded up."""
LARGEST = 1e4


def least_noise(made: Callable[[float], History], target: float, delta: float) -> float:
    """Return the least noise multiplier, in thousandths, that keeps epsilon to a target.

    Found at the coarse interval, so the final figure may be a little below the target; at the fine
    one for targets below 1 and for very many releases, where so coarse a rounding would ask for far
    more noise than it takes.

    Args:
        made: noise multiplier -> all that will be released with it.
        target: epsilon, at most.
        delta: at which.

    Raises:
        InputError: if no noise is enough.
    """
    high = 1.0
    while high < LARGEST and rough_epsilon(made(high), delta) > target:
        high = min(2 * high, LARGEST)
    interval = _interval(made(high), target, delta)

    def excess(log_noise: float) -> float:
        return epsilon(made(math.exp(log_noise)), delta, interval) - target

    while high < LARGEST and excess(math.log(high)) > 0:
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


def noises_together(
    made: Callable[[int, float], History],
    alone: Mapping[int, float],
    groups: Iterable[Iterable[int]],
    target: float,
    delta: float,
) -> dict[int, float]:
    """Return noise multipliers that keep epsilon to a target also for who is at several sites.

    The sites of a group raise theirs by the same factor, the least with which all that they release
    keeps to the target; a site of several groups by the largest of its factors. In thousandths,
    rounded up.

    Args:
        made: site, noise multiplier -> all that the site will release with it.
        alone: site -> the noise multiplier with which it keeps to the target by itself.
        groups: of sites at which the same patients are.
        target: epsilon, at most.
        delta: at which.

    Raises:
        InputError: if no noise is enough.
    """
    noises = dict(alone)
    for group in map(tuple, groups):
        together = partial(_together, made, alone, noises, group)
        if epsilon(together(1.0), delta, FINE if target < 1 else COARSE) > target:
            factor = least_noise(together, target, delta)
            noises |= {site: max(noises[site], alone[site] * factor) for site in group}
    return {
        site: noise if noise == alone[site] else math.ceil(noise * STEPS) / STEPS
        for site, noise in noises.items()
    }


def _together(
    made: Callable[[int, float], History],
    alone: Mapping[int, float],
    least: Mapping[int, float],
    group: tuple[int, ...],
    factor: float,
) -> History:
    """Return what a group releases with its noise raised by a factor, and to what it has to be."""
    released = [made(site, max(least[site], alone[site] * factor)) for site in group]
    return history(part for one in released for part in one.items())


def _interval(enough: History, target: float, delta: float) -> float:
    """Return the interval at which a target is looked for.

    Args:
        enough: what cheaper accounting says keeps to the target, if anything does.
        target: epsilon.
        delta: at which.
    """
    coarse = target >= 1 and epsilon(enough, delta, COARSE) <= target
    return COARSE if coarse else FINE
