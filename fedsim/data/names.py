"""What classes and sites may be called: whatever people can read and tell apart.

Names come from data and go into tables, figures, pages, files and terminals.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from fedsim.data.source import in_natural_order
from fedsim.errors import DataError

LONGEST = 100
"""Characters of a name."""
_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, breaks of lines, turns of the direction of writing, and what is no text."""


def readable(name: str) -> str:
    """Return a name.

    Raises:
        ValueError: if it is too long, or has characters that are no text or change what is around.
    """
    if len(name) > LONGEST:
        raise ValueError(f"{name[:20]!r}... has {len(name)} characters; use at most {LONGEST}")
    if found := _UNREADABLE.search(name):
        raise ValueError(
            f"{name!a} holds the character {found.group()!a}, which is no part of a name"
        )
    return name


Name = Annotated[str, AfterValidator(readable)]


def checked(values: Iterable[str], what: str) -> tuple[str, ...]:
    """Return the distinct names among some values, in natural order.

    Args:
        values: as the data have them.
        what: they are, for errors, such as `label`.

    Raises:
        DataError: if one cannot be read, or two look alike.
    """
    names = in_natural_order(values)
    alike: dict[str, str] = {}
    for name in names:
        try:
            readable(name)
        except ValueError as error:
            raise DataError(f"{what}: {error}") from error
        look = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if (other := alike.setdefault(look, name)) != name:
            raise DataError(
                f"{what}: {str(other)!a} and {str(name)!a} differ only in letter case, spaces or "
                "form of Unicode: write them alike"
            )
    return names
