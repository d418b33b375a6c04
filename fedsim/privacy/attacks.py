"""What the privacy profile says of attacks, in words for people who decide.

An attacker knows all but whether one unit was used (or, of replaced ones, which of two there was),
sees everything that was released, and says "used" (the second one) or not. Over all such attackers,
with delta(epsilon) the privacy profile,

    TPR - FPR <= delta(0)
    TPR <= min over epsilon of delta(epsilon) + e^epsilon FPR
    TPR <= min over epsilon of 1 - e^-epsilon (1 - delta(epsilon) - FPR)

Call the smaller of the last two T(FPR). Who tells a unit from another one in its place, where
neighbours have a blank there, sees two steps: TPR <= T(T(FPR)).

Source: Kairouz, Oh and Viswanath, ICML 2015; Dong, Roth and Su, JRSS-B 2022, proposition 2.12, and
group privacy there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsim.privacy.accounting import FINE, deltas, epsilon, is_private
from fedsim.privacy.directed_rounding import rounded_up
from fedsim.privacy.events import History
from fedsim.privacy.units import SMALLEST_DELTA, UNITS, Relation, Unit

Floats = NDArray[np.float64]

FALSE_POSITIVE_RATE = 0.01
NUM_EPSILONS = 1001
NUM_RATES = 1001
LARGEST = 700.0
"""Epsilon whose exponential is still a number."""


@dataclass(frozen=True)
class Attack:
    """What no attacker exceeds.

    Args:
        advantage: TPR - FPR.
        true_positive_rate: at a false positive rate of 1 %.
    """

    advantage: float
    true_positive_rate: float

    def text(self, unit: Unit, relation: Relation) -> str:
        """Return the figures in sentences about the two data sets that are to be told apart."""
        name = UNITS[unit]
        right = rounded_up(100 * (1 + self.advantage) / 2, ".1f")
        found = rounded_up(100 * self.true_positive_rate, ".1f")
        open_question, rates = (
            (
                f"which of two is in the place of one {name}",
                "If the one may be taken for the other at most one time in a hundred, the other is "
                f"found at most {found} times in a hundred.",
            )
            if relation == "replace_one"
            else (
                f"whether one {name} was used",
                "If at most one in a hundred unused ones may be taken for used, at most "
                f"{found} in a hundred used ones are found.",
            )
        )
        return (
            f"Somebody who knows everything but {open_question}, and who sees all that was "
            f"released, is right about it at most {right} times in a hundred, where a coin is "
            f"right 50 times. {rates}"
        )


def strongest_on_pure(epsilon: float) -> Attack:
    """Return what no attacker exceeds where epsilon holds at a delta of 0 (Kairouz et al.)."""
    rate = FALSE_POSITIVE_RATE
    found = min(math.exp(min(epsilon, 100.0)) * rate, 1 - math.exp(-epsilon) * (1 - rate))
    return Attack(math.tanh(epsilon / 2), found)


def strongest(
    history: History, interval: float = FINE, false_positive_rate: float = FALSE_POSITIVE_RATE
) -> Attack:
    """Return what no attacker on these releases exceeds; also those who choose their unit.

    Args:
        history: of releases.
        interval: to which privacy losses are rounded.
        false_positive_rate: at which the true one is given.
    """
    if not is_private(history):
        return Attack(1.0, 1.0)
    curve = _Curve.of(history, interval)
    (found,) = curve(np.array([false_positive_rate]))
    return Attack(float(curve.profile[0]), float(found))


def strongest_on_replaced(
    history: History, interval: float = FINE, false_positive_rate: float = FALSE_POSITIVE_RATE
) -> Attack:
    """Return what no attacker exceeds who tells a unit from another one that may be in its place.

    Args:
        history: of releases whose neighbours differ in a unit and a blank.
        interval: to which privacy losses are rounded.
        false_positive_rate: at which the true one is given.
    """
    if not is_private(history):
        return Attack(1.0, 1.0)
    curve = _Curve.of(history, interval)
    rates = np.linspace(0, 1, NUM_RATES)
    (found,) = curve(curve(np.array([false_positive_rate])))
    twice = curve(curve(rates))  # which rises, so that what follows holds between the rates, too
    return Attack(float((twice[1:] - rates[:-1]).max()), float(found))


@dataclass(frozen=True)
class _Curve:
    """The largest true positive rate as a function of the false one."""

    epsilons: Floats
    profile: Floats

    @classmethod
    def of(cls, history: History, interval: float) -> _Curve:
        largest = min(epsilon(history, SMALLEST_DELTA, interval), LARGEST)
        epsilons = np.linspace(0, largest, NUM_EPSILONS)
        return cls(epsilons, np.array(deltas(history, list(epsilons), interval)))

    def __call__(self, rates: Floats) -> Floats:
        """Return true positive rates at false ones, (rate,)."""
        factors, rates = np.exp(self.epsilons), rates[:, None]
        found = np.minimum(self.profile + factors * rates, 1 - (1 - self.profile - rates) / factors)
        most: Floats = np.minimum(1.0, found.min(1))
        return most
