"""The list of all that left the sites: one entry per release, written before it happens.

A row of `ledger.jsonl`:

    round      int        in which it is released; 0 is before the first
    site       str|null   whose; null: released unprotected by every site, or by the server in the
                          name of all sites, each of which it costs this event
    purpose    str        what is released
    unit       str|null   whose presence the noise hides; null: released unprotected
    relation   str|null   between neighbouring data sets, by dp_accounting's name
    num_units  int|null   that the site has; of the unit "site": how many sites there are
    mechanism  str|null   digest of the part of the scenario that made it
    event      object|null    dp_accounting's, with its noise in units of the sensitivity under the
                          relation; null: released unprotected

Entries that are equal are one release: a run that goes on after a crash to the same bits releases
nothing new. One that goes on with other versions or on other hardware makes the round that the
crash cut off with other noise: these releases are others, and have a purpose of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dp_accounting.dp_event import DpEvent

from fedsim.errors import InputError
from fedsim.privacy.events import from_data, to_data
from fedsim.privacy.trust import AGAIN
from fedsim.privacy.units import RELATIONS, UNITS, Relation, Unit


@dataclass(frozen=True)
class Entry:
    """One release; its fields are those of a row."""

    round: int
    site: str | None
    purpose: str
    unit: Unit | None = None
    relation: Relation | None = None
    num_units: int | None = None
    mechanism: str | None = None
    event: DpEvent | None = None

    def row(self) -> dict[str, Any]:
        """Return the entry as plain data."""
        event = None if self.event is None else to_data(self.event)
        return {name: getattr(self, name) for name in _FIELDS} | {"event": event}


_FIELDS = tuple(Entry.__dataclass_fields__)


def made_again(entry: Entry) -> Entry:
    """Return what the ledger has of a release that is made once more, with other noise."""
    return replace(entry, purpose=entry.purpose + AGAIN)


def entries(rows: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Return the entries of a ledger in their order, equal ones once.

    Raises:
        InputError: if a row is none of a ledger.
    """
    return list(dict.fromkeys(_entry(n, row) for n, row in enumerate(rows, start=1)))


def _entry(number: int, row: Mapping[str, Any]) -> Entry:
    line = f"line {number}"
    if not isinstance(row, Mapping) or set(row) != set(_FIELDS):
        raise InputError(f"{line}: a row of a ledger has {', '.join(_FIELDS)}, got {row}")
    protected = row["event"] is not None
    if protected and (row["unit"] not in UNITS or row["relation"] not in RELATIONS):
        raise InputError(f"{line}: a ledger does not know unit and relation of {dict(row)}")
    try:
        event = from_data(row["event"]) if protected else None
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"{line}: {error}") from error
    return Entry(**{**row, "event": event})
