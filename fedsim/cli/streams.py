"""Standard output and error that never end a run, whoever reads them and in which encoding."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
NARROWEST = 80
"""Columns that tables take at least: on a narrower terminal lines wrap, numbers stay whole."""


class Lasting(io.TextIOBase):
    """A stream that shows what it can and drops the rest.

    What its encoding does not have becomes `?`. Once writing fails (a reader that went away, a full
    disk), nothing more is written, and `error` says why.

    Args:
        stream: standard output or error; None if it was closed before Python started.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # opened at once, it takes the closed stream's number, which no file of the run then gets
        self._stream = stream or Path(os.devnull).open("w")  # noqa: SIM115
        self.error: OSError | None = None
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream; says for example whether a table may have lines."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Write `text`, or drop it."""
        if self.error is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written, or drop it."""
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def isatty(self) -> bool:
        """Whether a person looks on."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """That of the stream."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Yes, always."""
        return True

    def _give_up(self, error: OSError) -> None:
        """Send what is still buffered to nowhere, lest Python fail on it when it exits."""
        self.error = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def visible(text: str) -> str:
    r"""Return text whose control characters are shown, lest names in it command the terminal.

    >>> visible("a\x1b[2J\nb")
    'a\\x1b[2J\nb'
    """
    return _CONTROLS.sub(lambda found: ascii(found.group())[1:-1], text)


def console(narrowest: int = NARROWEST) -> Console:
    """Return standard output for tables, at least so many columns wide; names are no markup."""
    from rich.console import Console

    return Console(width=max(narrowest, Console().width), markup=False)
