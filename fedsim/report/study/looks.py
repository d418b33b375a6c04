"""How methods look: each keeps its colour, marker and line through all figures of a study.

Each of the three tells methods apart without the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedsim.report import canvas

if TYPE_CHECKING:
    from matplotlib.artist import Artist

COLOURS = (canvas.BLUE, canvas.VERMILLION, canvas.GREEN, canvas.PURPLE, canvas.ORANGE, canvas.SKY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2)))


def titled(setting: str) -> str:
    """Return a setting with the last parts of its key paths alone.

    >>> titled("population.partition=dirichlet(alpha=0.1), rounds=5")
    'partition=dirichlet(alpha=0.1), rounds=5'
    """
    return re.sub(r"(?:\w+\.)+(\w+=)", r"\1", setting)


@dataclass(frozen=True)
class Look:
    """How a method looks in every figure."""

    colour: str
    marker: str
    line: Any


def looks(methods: Sequence[str], reference: str) -> dict[str, Look]:
    """Return how each method looks; the reference is black."""
    others = [method for method in methods if method != reference]
    found = {
        method: Look(
            COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)], LINES[(n + 1) % len(LINES)]
        )
        for n, method in enumerate(others)
    }
    return {m: found.get(m, Look(canvas.BLACK, "o", "-")) for m in methods}


def legend(methods: Sequence[str], shown: Mapping[str, Look]) -> list[Artist]:
    """Return an entry for each method."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            color=shown[method].colour,
            ls=shown[method].line,
            marker=shown[method].marker,
            ms=4.5,
            label=method,
        )
        for method in methods
    ]
