"""Numbers with units, as people read them."""

from __future__ import annotations


def scaled(num: float, unit: str) -> str:
    """Return a number with three digits and the prefix that suits it.

    >>> scaled(12_345_678, "B")
    '12.3 MB'
    """
    prefixes = iter("kMGTPE")
    prefix = ""
    while num >= 999.5:
        num, prefix = num / 1000, next(prefixes)
    return f"{num:.3g} {prefix}{unit}"


def time(seconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> time(0.25), time(42.4), time(600)
    ('250 ms', '42 s', '10 min')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
