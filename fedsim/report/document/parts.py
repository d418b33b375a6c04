"""What a page is made of, as plain data: what it says stands here, how it looks in the template.

All text is text: the template escapes it, so names and descriptions may hold any character.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal
from urllib.parse import quote

SIZES = ("B", "kB", "MB", "GB", "TB")
Tone = Literal["", "good", "bad", "quiet"]
MAX_LINE = 40
"""Characters up to which a cell of a table is kept on one line."""
MAX_ROWS = 24
"""Rows up to which a table is shown as long as it is."""

PLAIN = " '+,-./:;=_"
"""Signs that stand for themselves in an address, and in HTML between double quotes."""


@dataclass(frozen=True)
class Cell:
    """A place in a table.

    Args:
        text: what stands there.
        key: what it is sorted by: a number, or the text; None is undefined and comes last.
        tone: a judgement that colour and weight underline, never colour alone.
    """

    text: str
    key: float | str | None
    tone: Tone = ""

    @property
    def is_number(self) -> bool:
        """Whether numbers are compared, which stand to the right."""
        return isinstance(self.key, int | float)

    @property
    def order(self) -> float | str | None:
        """The key, a number with as many digits as tell rows apart."""
        return float(f"{self.key:.6g}") if isinstance(self.key, float) else self.key

    @property
    def is_long(self) -> bool:
        """Whether the text takes several lines."""
        return len(self.text) > MAX_LINE


def word(text: str) -> Cell:
    """Return a cell of text."""
    return Cell(text, text)


def num(value: int) -> Cell:
    """Return a cell with a count."""
    return Cell(f"{value:,}", value)


def size(num_bytes: float) -> str:
    """Return a number of bytes for people.

    >>> size(0), size(999), size(1_234_567)
    ('0 B', '999 B', '1.2 MB')
    """
    step = 0
    while num_bytes >= 1000 and step < len(SIZES) - 1:
        num_bytes, step = num_bytes / 1000, step + 1
    return f"{num_bytes:.1f} {SIZES[step]}" if step else f"{num_bytes:.0f} {SIZES[step]}"


def size_cell(num_bytes: float | None) -> Cell:
    """Return a cell with a number of bytes."""
    return Cell("\N{EN DASH}" if num_bytes is None else size(num_bytes), num_bytes)


@dataclass(frozen=True)
class Table:
    """A table whose columns can be sorted; the first cell of a row names it.

    Args:
        caption: what it shows.
        headings: of the columns.
        rows: as many cells each.
        note: how to read it.
    """

    kind: ClassVar[str] = "table"
    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    @property
    def is_tall(self) -> bool:
        """Whether it has so many rows that it is shown in a box of its own."""
        return len(self.rows) > MAX_ROWS

    def is_numeric(self, column: int) -> bool:
        """Whether a column is one of numbers, as far as they are defined."""
        return self._numeric[column]

    @cached_property
    def _numeric(self) -> tuple[bool, ...]:
        defined = (
            [row[column] for row in self.rows if row[column].key is not None]
            for column in range(len(self.headings))
        )
        return tuple(bool(cells) and all(cell.is_number for cell in cells) for cells in defined)


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        data: the file.
        format: png or svg.
        alt: what it shows, for those who do not see it.
        size: of the figure in CSS pixels, width and height.
    """

    kind: ClassVar[str] = "picture"
    data: bytes
    format: Literal["png", "svg"]
    alt: str
    size: tuple[int, int]

    @property
    def uri(self) -> str:
        """The figure itself, as an address that may stand in an attribute as it is."""
        if self.format == "svg":
            return f"data:image/svg+xml,{quote(self.data, safe=PLAIN)}"
        return f"data:image/png;base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Text:
    """A paragraph: plain, a note in small print, or a warning."""

    kind: ClassVar[str] = "text"
    text: str
    role: Literal["plain", "note", "warning"] = "plain"


@dataclass(frozen=True)
class Sentences:
    """Statements, one after the other."""

    kind: ClassVar[str] = "sentences"
    sentences: Sequence[str]


@dataclass(frozen=True)
class Facts:
    """Terms and what is to be said of each; `large` for the few numbers on top of a page."""

    kind: ClassVar[str] = "facts"
    facts: Mapping[str, str]
    large: bool = False


@dataclass(frozen=True)
class Code:
    """Text for a machine, shut until asked for unless it is one line."""

    kind: ClassVar[str] = "code"
    title: str
    text: str

    @property
    def is_line(self) -> bool:
        """Whether it is short enough to stand open."""
        return "\n" not in self.text.strip()


@dataclass(frozen=True)
class Tabs:
    """Several views of one thing, of which one is seen at a time, on paper all.

    Args:
        label: what they are views of.
        tabs: title -> what is seen.
    """

    kind: ClassVar[str] = "tabs"
    label: str
    tabs: Mapping[str, Block]


Block = Table | Picture | Text | Sentences | Facts | Code | Tabs


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Args:
        anchor: by which it can be linked to.
        title: its heading.
        blocks: what it says; without any, the section is left out.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A page.

    Args:
        title: what it is about.
        kicker: what kind of page it is, above the title.
        lead: a sentence or two below it.
        summary: what stands before the first section.
        sections: the rest, in order.
        footer: who made it.
    """

    title: str
    kicker: str
    lead: str
    summary: Sequence[Block]
    sections: Sequence[Section]
    footer: str


def views(label: str, tabs: Mapping[str, Block]) -> tuple[Block, ...]:
    """Return tabs; a single view stands by itself, and none leave nothing."""
    return (Tabs(label, tabs),) if len(tabs) > 1 else tuple(tabs.values())
