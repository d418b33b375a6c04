"""Markdown in which names from data stay text: no markup, no link, no end of a table or a block."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|\](?=[(:\[])")


def harmless(text: str) -> str:
    """Return Markdown without HTML and links, which names in it might have brought.

    >>> harmless("A <script> and [a](javascript:b), p < 0.05 [0.1, 0.2]")
    'A &lt;script> and [a&#93;(javascript:b), p < 0.05 [0.1, 0.2]'
    """
    return _MARKUP.sub(lambda found: {"<": "&lt;", "]": "&#93;"}[found.group()], text)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, one line for each row whatever the cells hold."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def fenced(text: str, language: str) -> str:
    """Return a block of code that no line of the text can end.

    >>> print(fenced("a: 1", "yaml"))
    ```yaml
    a: 1
    ```
    """
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _cell(text: str) -> str:
    line = " ".join(text.split("\n"))
    return harmless(re.sub(r"([\\`*|])", r"\\\1", line))
