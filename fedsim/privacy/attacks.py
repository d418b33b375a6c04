"""What the privacy profile says of attacks, in words for people who decide.

An attacker knows all but whether one unit was used, sees everything that was released, and says
"used" or not. Over all such attackers, with delta(epsilon) the privacy profile,

    TPR - FPR <= delta(0)
    TPR <= min over epsilon of delta(epsilon) + e^epsilon FPR
    TPR <= min over epsilon of 1 - e^-epsilon (1 - delta(epsilon) - FPR)

Source: Kairouz, Oh and Viswanath, ICML 2015; Dong, Roth and Su, JRSS-B 2022, proposition 2.12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedsim.privacy.accounting import FINE, deltas, epsilon, is_private
from fedsim.privacy.directed_rounding import rounded_up
from fedsim.privacy.events import History
from fedsim.privacy.units import UNITS, Unit

FALSE_POSITIVE_RATE = 0.01
SMALLEST_DELTA = 1e-9
NUM_EPSILONS = 1001


@dataclass(frozen=True)
class Attack:
    """What no attacker exceeds.

    Args:
        advantage: TPR - FPR.
        true_positive_rate: at a false positive rate of 1 %.
    """

    advantage: float
    true_positive_rate: float

    def text(self, unit: Unit) -> str:
        """Return the figures in a sentence."""
        name = UNITS[unit]
        right = rounded_up(100 * (1 + self.advantage) / 2, ".1f")
        found = rounded_up(100 * self.true_positive_rate, ".1f")
        return (
            f"Somebody who knows everything but whether one {name} was used, and who sees all that "
            f"was released, is right about it at most {right} times in a hundred, where a coin is "
            "right 50 times. If at most one in a hundred unused ones may be taken for used, at "
            f"most {found} in a hundred used ones are found."
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
    epsilons = np.linspace(0, epsilon(history, SMALLEST_DELTA, interval), NUM_EPSILONS)
    profile = np.array(deltas(history, list(epsilons), interval))
    rate = false_positive_rate
    found = np.minimum(
        profile + np.exp(epsilons) * rate, 1 - np.exp(-epsilons) * (1 - profile - rate)
    )
    return Attack(float(profile[0]), float(min(1.0, found.min())))
