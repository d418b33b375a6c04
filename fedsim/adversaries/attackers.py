"""Which sites attack: named by the scenario, or drawn once for the whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsim.adversaries.adversary import Adversary
from fedsim.seeds import Streams

NAMED = 6
"""Sites that a sentence names."""


@dataclass(frozen=True)
class Attackers:
    """The adversaries of one run.

    Args:
        parts: as the scenario has them.
        sites: of each part.
        names: of all sites that train.
    """

    parts: tuple[Adversary, ...]
    sites: tuple[frozenset[int], ...]
    names: Sequence[str]

    def at(self, site: int, round: int) -> list[Adversary]:
        """Return how a site attacks if it starts in a round, in the scenario's order."""
        return [
            part
            for part, sites in zip(self.parts, self.sites, strict=True)
            if site in sites and part.from_round <= round
        ]

    def describe(self) -> list[dict[str, Any]]:
        """Return kind, first round and sites of each part, as plain data."""
        return [
            {
                "kind": part.kind,
                "from_round": part.from_round,
                "sites": [self.names[site] for site in sorted(sites)],
            }
            for part, sites in zip(self.parts, self.sites, strict=True)
        ]


def choose(parts: tuple[Adversary, ...], names: Sequence[str], streams: Streams) -> Attackers:
    """Return who attacks.

    Sites that a part names come first; one may be named by several. Then each share is drawn among
    the sites that are left, from the stream "adversaries" of the number of the part.

    Args:
        parts: as the scenario has them.
        names: of the sites that train; other names of the parts are passed over.
        streams: of the scenario.
    """
    asked = {name for part in parts for name in part.sites or ()}
    number_of = {name: site for site, name in enumerate(names) if name in asked} if asked else {}
    chosen = [
        frozenset(number_of[name] for name in part.sites or () if name in number_of)
        for part in parts
    ]
    for number, part in enumerate(parts):
        if part.share is not None:
            left = np.setdiff1d(np.arange(len(names)), list(frozenset().union(*chosen)))
            order = streams.numpy("adversaries", number=number).permutation(left)
            chosen[number] = frozenset(order[: num_drawn(part.share, len(names))].tolist())
    return Attackers(parts, tuple(chosen), names)


def num_drawn(share: float, num_sites: int) -> int:
    """Return how many sites a share is, rounded."""
    return round(share * num_sites)


def text(described: Sequence[Mapping[str, Any]], num_sites: int) -> str:
    """Return what `Attackers.describe` says in a sentence, nothing where nobody attacks.

    >>> flip = {"kind": "sign_flip", "from_round": 1, "sites": ["site-1", "site-4"]}
    >>> text([flip], 8)
    '2 of 8 sites attack: sign_flip from round 1 (site-1, site-4)'
    >>> text([], 8)
    ''
    """
    if not described:
        return ""
    num = len({name for part in described for name in part["sites"]})
    attacks = "; ".join(
        f"{part['kind']} from round {part['from_round']} ({_listed(part['sites'])})"
        for part in described
    )
    return f"{num:,} of {num_sites:,} sites attack{'s' * (num == 1)}: {attacks}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return (", ".join(names[:NAMED]) + f" and {more:,} more" * (more > 0)) or "held out"
