"""What a ledger says of private steps, as far as an audit can put it to the test."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dp_accounting import dp_event, get_epsilon_gaussian
from dp_accounting.dp_event import DpEvent

from fedsim.privacy.accounting import epsilon
from fedsim.privacy.balance import ALL_SITES
from fedsim.privacy.events import History, history
from fedsim.privacy.ledger import Entry
from fedsim.privacy.units import Unit

EXAMPLE = "example"


@dataclass(frozen=True)
class Claim:
    """Private steps, or rounds, of sites that have all the same.

    Args:
        unit: whose presence is hidden.
        sites: their names.
        noise_multiplier: sigma.
        sampling_rate: q.
        num_steps: in the whole run.
    """

    unit: Unit
    sites: tuple[str, ...]
    noise_multiplier: float
    sampling_rate: float
    num_steps: int

    @property
    def who(self) -> str:
        """The sites, for people."""
        first, *others = self.sites
        return first + (f" and {len(others)} more" if others else "")

    def epsilon(self, delta: float, noise_multiplier: float | None = None) -> float:
        """Return the epsilon of all the steps, with this or another noise."""
        noise = self.noise_multiplier if noise_multiplier is None else noise_multiplier
        if self.sampling_rate == 1 and noise > 0:  # so many are one with less noise: exact
            return float(get_epsilon_gaussian(noise / math.sqrt(self.num_steps), delta))
        return epsilon(self.history(noise), delta)

    def history(self, noise_multiplier: float) -> History:
        """Return the steps as a ledger has them."""
        if noise_multiplier == 0:
            return history([(dp_event.NonPrivateDpEvent(), self.num_steps)])
        gaussian = dp_event.GaussianDpEvent(noise_multiplier)
        step = dp_event.PoissonSampledDpEvent(self.sampling_rate, gaussian)
        return history([(step, self.num_steps)])


def claims(entries: Iterable[Entry]) -> list[Claim]:
    """Return what a ledger has of steps with Gaussian noise.

    A site whose steps are not all alike has several.
    """
    by_site: dict[tuple[Unit, str], list[Entry]] = {}
    for entry in entries:
        if entry.event is not None and entry.unit is not None:
            by_site.setdefault((entry.unit, entry.site or ALL_SITES), []).append(entry)
    sites: dict[tuple[Unit, tuple[float, float, int]], list[str]] = {}
    for (unit, site), found in by_site.items():
        for numbers in private_steps((one.event, 1) for one in found if one.event is not None):
            sites.setdefault((unit, numbers), []).append(site)
    return [Claim(unit, tuple(names), *numbers) for (unit, numbers), names in sites.items()]


def private_steps(events: Iterable[tuple[DpEvent, int]]) -> list[tuple[float, float, int]]:
    """Return sigma, q and their number of all steps with noise in a sequence of releases."""
    found = []
    for event, count in history(events).items():
        match event:
            case dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(z)) if z > 0:
                found.append((z, q, count))
            case dp_event.GaussianDpEvent(z) if z > 0:
                found.append((z, 1.0, count))
    return found
