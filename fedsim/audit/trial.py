"""Canaries that were there or not by fair coins, and how an attacker scores each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsim.audit.claims import private_steps
from fedsim.audit.subject import Subject
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.balance import ALL_SITES
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.events import History, history
from fedsim.privacy.ledger import Entry

Coins = NDArray[np.bool_]
Scores = NDArray[np.float64]


class TooFewCanaries(Exception):
    """There are not enough of them to guess; says why."""


@dataclass(frozen=True)
class Target:
    """Whose releases are audited: a site's, or the server's in the name of all sites.

    Args:
        name: of the site, or `ALL_SITES`.
        epsilon: of its ledger.
        rounds: round -> what is released there.
        num_units: that the ledger hides.
    """

    name: str
    epsilon: float
    rounds: Mapping[int, Steps]
    num_units: int


@dataclass(frozen=True)
class Trial:
    """What an attacker knows of canaries, and the truth.

    Args:
        scores: higher where a canary seems to have been there, (canary,).
        coins: whether it was, (canary,).
        story: what was done with them, a sentence.
    """

    scores: Scores
    coins: Coins
    story: str


def drawn_coins(subject: Subject, num: int) -> Coins:
    """Return which of so many canaries are there."""
    coins: Coins = subject.streams.numpy("one_run_coins").random(num) < 0.5
    return coins


def target_of(subject: Subject) -> Target:
    """Return whose epsilon is the largest, the one with the fewest units of equal ones."""
    assert subject.scenario.privacy is not None
    unit, releases = subject.scenario.privacy.mechanism.unit, dict[str, list[Entry]]()
    for entry in subject.ledger:
        if entry.event is not None and entry.unit == unit:
            releases.setdefault(entry.site or ALL_SITES, []).append(entry)
    spent = {name: epsilon(_history(found), subject.delta) for name, found in releases.items()}
    largest = max(spent, key=lambda name: (round(spent[name], 3), -_num_units(releases[name])))
    rounds = {
        entry.round: Steps(*numbers)
        for entry in releases[largest]
        if entry.event is not None
        for numbers in private_steps([(entry.event, 1)])
    }
    return Target(largest, spent[largest], rounds, _num_units(releases[largest]))


def _history(found: list[Entry]) -> History:
    return history((entry.event, 1) for entry in found if entry.event is not None)


def _num_units(found: list[Entry]) -> int:
    return found[0].num_units or 0
