"""From a history of releases to epsilon: privacy loss distributions, rounded both ways.

The headline is dp_accounting's privacy loss distribution (PLD). Losses are rounded to multiples of
an interval, upwards for the upper bound, which is the epsilon that holds ("connect the dots",
Doroshenko et al. 2022), and downwards for a lower bound on what any accountant could say; the two
tell how much of the figure is rounding. Events count their noise in units of the sensitivity (see
`Mechanism`), so one calculation serves every neighbouring relation: dp_accounting's own relations
mean different things to its different accountants.

A history is the number of times that each event was released; equal histories are computed once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import Any

from dp_accounting import NeighboringRelation, dp_event, rdp
from dp_accounting.dp_event import DpEvent
from dp_accounting.pld import privacy_loss_distribution as make
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution as Pld

from fedsim.privacy.events import History

COARSE, FINE = 1e-3, 1e-4
"""Intervals of the rounding: while a run goes on, and of its final figures."""
MOST_INTERVALS = 100_000
"""Intervals up to epsilon; the interval grows with epsilon beyond."""
CLOSE = 0.9
"""Share of epsilon that a lower bound should reach, and is made ten times finer to reach."""
_ORDERS = (2, 3, 4, 6, 8, 12, 16, 32, 64)
_UNIT_SENSITIVITY = NeighboringRelation.REPLACE_SPECIAL
"""The relation under which every accountant of dp_accounting takes the sensitivity to be 1."""


@dataclass(frozen=True)
class Bounds:
    """What epsilon is.

    Args:
        low: no analysis of these releases could give less.
        high: holds, and is what is reported.
        interval: of the rounding of `high`; that of `low` is this or a tenth of it.
    """

    low: float
    high: float
    interval: float

    @property
    def close(self) -> bool:
        """Whether the lower one tells something of the size of epsilon."""
        return self.low >= CLOSE * self.high


def pure_epsilon(history: History) -> float | None:
    """Return the epsilon that holds at a delta of 0, None if there is none.

    Exactly: it is the largest privacy loss of any outcome, and those of several releases add up.

    >>> pure_epsilon({dp_event.LaplaceDpEvent(2.0): 3})
    1.5
    """
    losses = [(_largest_loss(event), count) for event, count in history.items()]
    if any(math.isinf(loss) for loss, _ in losses):
        return None
    return math.fsum(loss * count for loss, count in losses)


def epsilon(history: History, delta: float, interval: float = FINE) -> float:
    """Return the epsilon that holds at `delta`; inf where something was released without noise."""
    return _epsilon(_key(history), delta, _suited(history, interval), True)


def bounds(history: History, delta: float, interval: float = FINE) -> Bounds:
    """Return epsilon at `delta` from below and above.

    Rounding down takes about half an interval from every release, and nothing makes up for it: of
    very many releases the lower bound may be far below even at the finer interval.
    """
    key, suited = _key(history), _suited(history, interval)
    low, high = (_epsilon(key, delta, suited, above) for above in (False, True))
    found = Bounds(low, high, suited)
    return found if found.close else replace(found, low=_epsilon(key, delta, suited / 10, False))


def deltas(history: History, epsilons: list[float], interval: float = FINE) -> list[float]:
    """Return the privacy profile: the delta that holds at each epsilon, from above."""
    if not is_private(history):
        return [1.0] * len(epsilons)
    composed = _composed(_key(history), _suited(history, interval), True)
    return [min(1.0, float(value)) for value in composed.get_delta_for_epsilon(epsilons)]


def is_private(history: History) -> bool:
    """Return whether everything was released with noise."""
    return not any(map(_lacks_noise, history))


def rough_epsilon(history: History, delta: float) -> float:
    """Return an upper bound on epsilon that costs next to nothing (Renyi), inf if there is none."""
    accountant = rdp.RdpAccountant(_ORDERS, _UNIT_SENSITIVITY)
    if not is_private(history) or not all(map(accountant.supports, history)):
        return math.inf
    for event, count in history.items():
        accountant.compose(event, count)
    return float(accountant.get_epsilon(delta))


def _key(history: History) -> frozenset[tuple[DpEvent, int]]:
    return frozenset(history.items())


def _suited(history: History, interval: float) -> float:
    """Return the interval, or a larger one where epsilon would have too many of them."""
    largest = rough_epsilon(history, delta=1e-5)
    return max(interval, largest / MOST_INTERVALS) if math.isfinite(largest) else interval


def _largest_loss(event: DpEvent) -> float:
    """Return the largest privacy loss of any outcome, inf if there is no largest one."""
    match event:
        case dp_event.LaplaceDpEvent(scale) if scale > 0:
            return float(1 / scale)
        case dp_event.DiscreteLaplaceDpEvent(parameter, sensitivity):
            return float(parameter * sensitivity)
        case dp_event.RandomizedResponseDpEvent(rate, num_classes) if rate > 0:
            return math.log((1 - rate) * num_classes / rate + 1)
    return math.inf


def _lacks_noise(event: DpEvent) -> bool:
    match event:
        case dp_event.NonPrivateDpEvent():
            return True
        case (
            dp_event.GaussianDpEvent(noise)
            | dp_event.LaplaceDpEvent(noise)
            | dp_event.DiscreteLaplaceDpEvent(noise, _)
            | dp_event.RandomizedResponseDpEvent(noise, _)
            | dp_event.MixtureOfGaussiansDpEvent(noise, _, _)
        ):
            return bool(noise == 0)
        case dp_event.PoissonSampledDpEvent(rate, inner):
            return rate > 0 and _lacks_noise(inner)
        case _:
            return False


@lru_cache(maxsize=4096)
def _epsilon(
    key: frozenset[tuple[DpEvent, int]], delta: float, interval: float, above: bool
) -> float:
    if not is_private(dict(key)):
        return math.inf
    return float(_composed(key, interval, above).get_epsilon_for_delta(delta))


@lru_cache(maxsize=4)
def _composed(key: frozenset[tuple[DpEvent, int]], interval: float, above: bool) -> Pld:
    """Return the distribution of a history whose events all have noise."""
    parts = [_repeated(event, count, interval, above) for event, count in sorted(key, key=repr)]
    nothing = make.identity(interval, pessimistic_estimate=above)
    return reduce(Pld.compose, parts) if parts else nothing


def _repeated(event: DpEvent, count: int, interval: float, above: bool) -> Pld:
    if isinstance(event, dp_event.GaussianDpEvent):  # so many are one with less noise
        less = dp_event.GaussianDpEvent(event.noise_multiplier / math.sqrt(count))
        return _single(less, interval, above)
    return _single(event, interval, above).self_compose(count)


@lru_cache(maxsize=16)
def _single(event: DpEvent, interval: float, above: bool) -> Pld:
    """Return the distribution of one event of sensitivity 1.

    Raises:
        ValueError: if there is none for it.
    """
    rounding: dict[str, Any] = {
        "value_discretization_interval": interval,
        "pessimistic_estimate": above,
    }
    dots = {**rounding, "use_connect_dots": above}
    match event:
        case dp_event.GaussianDpEvent(z):
            return make.from_gaussian_mechanism(z, **dots)
        case dp_event.LaplaceDpEvent(b):
            return make.from_laplace_mechanism(b, **dots)
        case dp_event.DiscreteLaplaceDpEvent(a, sensitivity):
            return make.from_discrete_laplace_mechanism(a, sensitivity, **dots)
        case dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(z)):
            return make.from_gaussian_mechanism(z, sampling_prob=q, **dots)
        case dp_event.PoissonSampledDpEvent(q, dp_event.LaplaceDpEvent(b)):
            return make.from_laplace_mechanism(b, sampling_prob=q, **dots)
        case dp_event.RandomizedResponseDpEvent(p, num_buckets):
            return make.from_randomized_response(p, num_buckets, **rounding)
        case dp_event.MixtureOfGaussiansDpEvent(std, sensitivities, probabilities):
            return make.from_mixture_gaussian_mechanism(std, sensitivities, probabilities, **dots)
    raise ValueError(f"no privacy loss distribution for {event!r}")
