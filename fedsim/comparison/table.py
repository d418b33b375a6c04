"""A table in Markdown and LaTeX, and numbers as people read them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fedsim import markdown

UNDEFINED = "\N{EN DASH}"
_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "\n": " ",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    "≈": r"$\approx$",
    UNDEFINED: "--",
    **{sign: f"\\{sign}" for sign in "&%$#_"},
}
_SPECIAL = re.compile("|".join([r"(?<![\w.])-(?=\d)", *map(re.escape, _SIGNS)]))


@dataclass(frozen=True)
class Table:
    """A table for people.

    Args:
        caption: what it shows and how to read it.
        headings: of the columns.
        rows: of cells, as long as the headings.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table with its caption below."""
        return f"{markdown.table(self.headings, self.rows)}\n\n{markdown.harmless(self.caption)}\n"

    def latex(self) -> str:
        """Return a table environment; needs the packages booktabs and amssymb."""
        body = [" & ".join(map(escape, row)) + r" \\" for row in self.rows]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{escape(self.caption)}}}",
                rf"\begin{{tabular}}{{{'l' * len(self.headings)}}}",
                r"\toprule",
                " & ".join(map(escape, self.headings)) + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def escape(text: str) -> str:
    r"""Return a text as LaTeX sets it.

    >>> print(escape("fed_avg & -0.1 ± 1"))
    fed\_avg \& $-$0.1 $\pm$ 1
    """
    return _SPECIAL.sub(lambda match: _SIGNS.get(match.group(), "$-$"), text)


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Return a value for people.

    >>> number(0.5), number(0.25, 2, signed=True)
    ('0.500', '+0.25')
    """
    if value is None:
        return UNDEFINED
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def bracketed(
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    digits: int = 3,
    signed: bool = False,
) -> str:
    """Return a value with its interval, if it has one.

    >>> bracketed(0.9, 0.85, 0.94), bracketed(0.9, None, None)
    ('0.900 [0.850, 0.940]', '0.900')
    """
    ends = (
        ""
        if low is None
        else f" [{', '.join(number(e, digits, signed=signed) for e in (low, high))}]"
    )
    return number(value, digits, signed=signed) + ends
