"""What other accountants say of the same releases.

Renyi accounting (RDP) is an upper bound that is looser than privacy loss distributions, so one that
is below them, by more than their rounding, means that one of the two is wrong. Opacus' PRV
accountant returns the upper end of an interval of 0.01 around the epsilon of the same kind of
analysis. Gaussian differential privacy (GDP) is a limit for many steps and no bound at all.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dp_accounting import NeighboringRelation, dp_event, rdp

from fedsim.privacy.accounting import Bounds, is_private
from fedsim.privacy.events import History

if TYPE_CHECKING:
    from opacus.accountants import IAccountant

RDP, OPACUS_RDP, OPACUS_PRV = "RDP", "Opacus RDP", "Opacus PRV"
GDP = "GDP (no bound)"
UPPER_BOUNDS = (RDP, OPACUS_RDP, OPACUS_PRV)
LARGEST_OF_PRV = 100.0
"""Epsilon above which Opacus' PRV accountant takes long and then may answer infinity."""


def cross_checks(history: History, delta: float) -> dict[str, float]:
    """Return epsilon at `delta` by other accountants, by their name; those that can say."""
    if not history or not is_private(history):
        return {}
    found = {RDP: _rdp(history, delta)}
    steps = _gaussian_steps(history)
    if steps is not None:
        found |= _opacus(steps, delta, with_prv=found[RDP] <= LARGEST_OF_PRV)
    return {name: max(0.0, value) for name, value in found.items() if math.isfinite(value)}


def contradictions(bounds: Bounds, checks: dict[str, float]) -> list[str]:
    """Return the names of upper bounds that are below what is possible."""
    return [name for name in UPPER_BOUNDS if checks.get(name, math.inf) < bounds.low]


def _rdp(history: History, delta: float) -> float:
    # under replace-special the sensitivity is 1; under replace-one this accountant does not double
    accountant = rdp.RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_SPECIAL)
    if not all(map(accountant.supports, history)):
        return math.inf
    with _quiet():
        for event, count in history.items():
            accountant.compose(event, count)
    return float(accountant.get_epsilon(delta))


def _gaussian_steps(history: History) -> list[tuple[float, float, int]] | None:
    """Return noise, sampling rate and count of every event, None if one is of another kind."""
    steps = []
    for event, count in history.items():
        match event:
            case dp_event.GaussianDpEvent(z):
                steps.append((z, 1.0, count))
            case dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(z)):
                steps.append((z, q, count))
            case _:
                return None
    return steps


def _opacus(
    steps: list[tuple[float, float, int]], delta: float, with_prv: bool
) -> dict[str, float]:
    from opacus.accountants import GaussianAccountant, PRVAccountant, RDPAccountant

    wanted: dict[str, type[IAccountant]] = {OPACUS_RDP: RDPAccountant}
    if with_prv:
        wanted[OPACUS_PRV] = PRVAccountant
        if len(steps) == 1 and steps[0][1] < 1:
            wanted[GDP] = GaussianAccountant
    found = {}
    with _quiet():
        for name, kind in wanted.items():
            accountant = kind()
            accountant.history = list(steps)
            with suppress(ValueError):  # Opacus looks for that of GDP between 0 and 500
                found[name] = float(accountant.get_epsilon(delta))
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Say nothing of orders that were left out or were the last of their list."""
    log = logging.getLogger("absl")
    log.disabled, before = True, log.disabled
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
