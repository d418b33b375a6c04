"""Directed rounding: a bound that is printed with few digits is still a bound.

What is promised, and what nobody can exceed, is rounded up; what is shown at least is rounded down.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext

EXACT = ".12g"
"""Digits in which a number counts: those beyond are what floating point may be off."""


def rounded_up(value: float, digits: str) -> str:
    """Return an upper bound, formatted.

    Args:
        value: the bound.
        digits: format of a float, such as ".4f".

    >>> rounded_up(7.99981, ".3f"), rounded_up(12.31, ".3g"), rounded_up(0.1 + 0.2, ".1f")
    ('8.000', '12.4', '0.3')
    """
    return _rounded(value, digits, ROUND_CEILING)


def rounded_down(value: float, digits: str) -> str:
    """Return a lower bound, formatted.

    Args:
        value: the bound.
        digits: format of a float, such as ".4f".

    >>> rounded_down(3.4999, ".2f"), rounded_down(0.98769, ".4g"), rounded_down(0.0, ".4g")
    ('3.49', '0.9876', '0')
    """
    return _rounded(value, digits, ROUND_FLOOR)


def _rounded(value: float, digits: str, rounding: str) -> str:
    if not math.isfinite(value):
        return format(value, digits)
    with localcontext() as context:
        context.rounding = rounding
        return format(Decimal(format(value, EXACT)), digits)
