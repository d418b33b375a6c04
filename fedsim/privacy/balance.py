"""What a ledger comes to: epsilon site by site, and by several accountants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from dp_accounting.dp_event import DpEvent

from fedsim.privacy.accounting import COARSE, FINE, Bounds, bounds, epsilon, pure_epsilon
from fedsim.privacy.attacks import Attack, strongest, strongest_on_pure
from fedsim.privacy.cross_checks import contradictions, cross_checks
from fedsim.privacy.directed_rounding import rounded_down, rounded_up
from fedsim.privacy.events import History, history, in_words
from fedsim.privacy.ledger import Entry
from fedsim.privacy.trust import AGAIN
from fedsim.privacy.units import UNITS, Relation, Unit

Key = tuple[str, Unit, Relation]
"""Whose account it is."""
MOST_FINE = 16
"""Different histories up to which all epsilons are made at the fine interval."""
ALL_SITES = "all sites"
"""Whose account it is if the server releases and all sites spend alike."""
HEADINGS = ("site", "unit", "n", "rounds", "released", "delta", "epsilon")
"""Of a table of accounts."""


@dataclass(frozen=True)
class Account:
    """What was released of one site's units of one kind.

    Args:
        site: its name; of what all sites spend alike, `ALL_SITES`.
        unit: whose presence is hidden.
        relation: between neighbouring data sets.
        num_units: that the site has, of hospitals how many there are; None if the ledger does not
            say.
        num_rounds: in which something was released.
        released: the events, in words.
        delta: 0 where epsilon is exact without one, else that of the balance.
        epsilon: at this delta.
        purposes: of the releases.
    """

    site: str
    unit: Unit
    relation: Relation
    num_units: int | None
    num_rounds: int
    released: str
    delta: float
    epsilon: float
    purposes: tuple[str, ...] = ()

    def cells(self) -> list[str]:
        """Return what stands under `HEADINGS`."""
        num = "" if self.num_units is None else str(self.num_units)
        rounds, delta = str(self.num_rounds), f"{self.delta:g}"
        epsilon = rounded_up(self.epsilon, ".4f")
        return [self.site, self.unit, num, rounds, self.released, delta, epsilon]


@dataclass(frozen=True)
class Verdict:
    """What the federation spends of units of one kind: the largest of its sites' epsilons.

    A unit that is at two sites spends more than that; a hospital is one site.

    Args:
        account: of that site.
        bounds: of its epsilon, at the fine interval.
        checks: its epsilon by other accountants, by name.
        attack: what no attacker exceeds.
    """

    account: Account
    bounds: Bounds
    checks: dict[str, float]
    attack: Attack

    def alarms(self) -> Iterator[str]:
        """Yield what cannot be."""
        if wrong := contradictions(self.bounds, self.checks):
            yield (
                f"{self.account.site}: {', '.join(wrong)} is below what is possible, "
                f"{rounded_down(self.bounds.low, '.4f')}: one of the accountants is wrong"
            )


@dataclass(frozen=True)
class Shared:
    """What patients spend whose images are at several sites: those sites' releases together.

    Args:
        sites: where they are.
        num_patients: that are at these.
        epsilon: at the balance's delta.
    """

    sites: tuple[str, ...]
    num_patients: int
    epsilon: float


@dataclass(frozen=True)
class Balance:
    """What a whole ledger comes to.

    Args:
        delta: at which epsilon is given, where it needs one.
        interval: to which the privacy losses of the accounts are rounded; of those that may be the
            largest of their kind, to the fine one.
        accounts: by kind of unit, then in the order of the ledger.
        federation: a verdict for each kind of unit.
        unprotected: what is released without noise.
        shared: what patients at several sites spend, if patients are hidden; the most first.
    """

    delta: float
    interval: float
    accounts: list[Account]
    federation: list[Verdict]
    unprotected: list[str]
    shared: list[Shared]

    def as_data(self) -> dict[str, Any]:
        """Return the balance as plain data; JSON has no infinity, so that is null."""
        data: dict[str, Any] = _finite(asdict(self))
        return data

    def warnings(self) -> Iterator[str]:
        """Yield what makes the figures empty."""
        counts = (account.num_units or 0 for account in self.accounts if account.delta)
        largest = max(counts, default=0)
        if largest and self.delta >= 1 / largest:
            yield (
                f"delta {self.delta:g} is not below 1 / {largest}: publishing one unit at random "
                "would count as private"
            )


def balance(
    entries: Iterable[Entry], delta: float, shared: Iterable[Mapping[str, Any]] = ()
) -> Balance:
    """Return what the entries of a ledger come to.

    Equal histories are computed once.

    Args:
        entries: of the ledger, each release once.
        delta: at which epsilon is wanted; of what is exact at a delta of 0, it is given there.
        shared: as `Population.shared_patients` has them.
    """
    entries = list(entries)
    groups = _groups(entries)
    composed = {key: _composed(group) for key, group in groups.items()}
    few = len({frozenset(found.items()) for found in composed.values()}) <= MOST_FINE
    interval = FINE if few else COARSE
    accounts = _sharpened(_accounts(groups, composed, delta, interval), composed)
    largest = {
        unit: max((k for k in accounts if k[1] == unit), key=lambda k: accounts[k].epsilon)
        for unit in UNITS
        if any(unit == key[1] for key in accounts)
    }
    return Balance(
        delta,
        interval,
        sorted(accounts.values(), key=lambda account: list(UNITS).index(account.unit)),
        [_verdict(accounts[key], composed[key], delta) for key in largest.values()],
        list(dict.fromkeys(entry.purpose for entry in entries if entry.event is None)),
        _shared(groups, shared, delta),
    )


def spent(
    entries: Iterable[Entry], delta: float, shared: Iterable[Mapping[str, Any]] = ()
) -> list[Account]:
    """Return the accounts of a ledger alone, quickly: at the coarse interval, so rounded upwards.

    Patients at several sites have accounts of their own, under the names of all of these.

    Args:
        entries: of the ledger, each release once.
        delta: as in `balance`.
        shared: as in `balance`.
    """
    groups = _groups(list(entries))
    composed = {key: _composed(group) for key, group in groups.items()}
    accounts = list(_accounts(groups, composed, delta, COARSE).values())
    for part, key, there in _at_several_sites(groups, shared):
        (account,) = _accounts({key: there}, {key: _composed(there)}, delta, COARSE).values()
        accounts.append(replace(account, num_units=part["num_patients"]))
    return accounts


def needs_delta(entries: Iterable[Entry]) -> bool:
    """Return whether something was released of which no epsilon holds at a delta of 0."""
    events = [(entry.event, 1) for entry in entries if entry.event is not None]
    return pure_epsilon(history(events)) is None


def _groups(entries: list[Entry]) -> dict[Key, list[Entry]]:
    """Return the protected entries by whose they are; those of all sites are each site's too."""
    groups: dict[Key, list[Entry]] = {}
    for entry in entries:
        if entry.event is not None and entry.unit is not None and entry.relation is not None:
            key = (entry.site or ALL_SITES, entry.unit, entry.relation)
            groups.setdefault(key, []).append(entry)
    for (site, unit, relation), group in groups.items():
        if site != ALL_SITES:
            group += groups.get((ALL_SITES, unit, relation), [])
    return groups


def _accounts(
    groups: Mapping[Key, list[Entry]],
    composed: Mapping[Key, History],
    delta: float,
    interval: float,
) -> dict[Key, Account]:
    return {
        key: Account(
            *key,
            group[0].num_units,
            len({entry.round for entry in group}),
            in_words(composed[key]),
            *_epsilon(composed[key], delta, interval),
            tuple(dict.fromkeys(entry.purpose.partition(AGAIN)[0] for entry in group)),
        )
        for key, group in groups.items()
    }


def _sharpened(
    accounts: Mapping[Key, Account], composed: Mapping[Key, History]
) -> dict[Key, Account]:
    """Return the accounts with those at the fine interval that may have the largest epsilon.

    Rounding makes many steps dearer than few, so the largest at a coarse interval may be another's.
    None is larger at the fine interval than at a coarse one, which tells when to stop.
    """
    found = dict(accounts)
    for unit in UNITS:
        most = -math.inf
        keys = (key for key in accounts if key[1] == unit)
        for key in sorted(keys, key=lambda key: -accounts[key].epsilon):
            account = accounts[key]
            if account.epsilon <= most:
                break
            _, fine = _epsilon(composed[key], account.delta, FINE)
            found[key] = replace(account, epsilon=fine)
            most = max(most, fine)
    return found


def _composed(group: list[Entry]) -> History:
    return history((entry.event, 1) for entry in group if entry.event is not None)


def _epsilon(found: History, delta: float, interval: float) -> tuple[float, float]:
    """Return at which delta epsilon is given, and epsilon."""
    pure = pure_epsilon(found)
    return (delta, epsilon(found, delta, interval)) if pure is None else (0.0, pure)


def _shared(
    groups: Mapping[Key, list[Entry]],
    shared: Iterable[Mapping[str, Any]],
    delta: float,
) -> list[Shared]:
    """Return what patients at several sites spend: all that is released of them, composed.

    Those who may spend most at the fine interval, as in `_sharpened`.
    """
    rough, most = [], -math.inf
    for part, _, there in _at_several_sites(groups, shared):
        composed = _composed(there)
        rough.append((epsilon(composed, delta, COARSE), part, composed))
    found = []
    for spent, part, composed in sorted(rough, key=lambda one: -one[0]):
        fine = spent if spent <= most else epsilon(composed, delta, FINE)
        found.append(Shared(tuple(part["sites"]), part["num_patients"], fine))
        most = max(most, fine)
    return sorted(found, key=lambda one: -one.epsilon)


def _at_several_sites(
    groups: Mapping[Key, list[Entry]], shared: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], Key, list[Entry]]]:
    """Yield patients at several sites, whose account theirs is, and what is released of them."""
    for part in shared:
        keys = [key for key in groups if key[1] == "patient" and key[0] in part["sites"]]
        if keys:
            there = [entry for key in keys for entry in groups[key]]
            yield part, (" and ".join(part["sites"]), *keys[0][1:]), there


def _verdict(account: Account, found: History, delta: float) -> Verdict:
    if not account.delta:
        exact = account.epsilon
        return Verdict(account, Bounds(exact, exact, 0.0), {}, strongest_on_pure(exact))
    return Verdict(account, *_figures(frozenset(found.items()), delta))


@lru_cache(maxsize=64)
def _figures(
    found: frozenset[tuple[DpEvent, int]], delta: float
) -> tuple[Bounds, dict[str, float], Attack]:
    events = dict(found)
    return bounds(events, delta, FINE), cross_checks(events, delta), strongest(events, FINE)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
