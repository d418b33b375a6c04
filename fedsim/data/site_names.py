"""Names of sites that the data do not name: one by one when asked for, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

PREFIX = "site-"


@dataclass(frozen=True)
class NumberedSites(Sequence[str]):
    """Names that sort as the sites do, none of which is kept.

    >>> names = NumberedSites(1_000_000)
    >>> names[7], names[-1], "site-000007" in names, "site-7" in names
    ('site-000007', 'site-999999', True, False)

    Args:
        num_sites: how many.
    """

    num_sites: int

    def __len__(self) -> int:
        return self.num_sites

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[site] for site in range(self.num_sites)[index]]
        width = max(2, len(str(self.num_sites - 1)))
        return f"{PREFIX}{range(self.num_sites)[index]:0{width}d}"

    def __contains__(self, name: object) -> bool:
        number = str(name).removeprefix(PREFIX)
        countable = number.isdecimal() and len(number) < len(self[-1])
        known = countable and int(number) < self.num_sites
        return known and self[int(number)] == name
