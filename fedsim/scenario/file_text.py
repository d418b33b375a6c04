"""The text of a file that somebody names, whatever is behind the name."""

from __future__ import annotations

import os
import pathlib
import stat

from fedsim.errors import ScenarioError

LARGEST_FILE = 300_000
"""Bytes; a hundred times what a scenario takes, and read in a few seconds."""
EXPECTED = "expected a scenario file (YAML)"


def read_text(path: pathlib.Path) -> str:
    """Return the text of a regular file; anything else is neither opened nor waited for.

    Raises:
        ScenarioError: if there is none, or it is too large or no text.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ScenarioError(f"{path}: is a folder; {EXPECTED}")
        if not stat.S_ISREG(mode):
            raise ScenarioError(f"{path}: is a pipe or device, which is read once; {EXPECTED}")
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            content = file.read(LARGEST_FILE + 1) or b""  # None: reading would wait
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > LARGEST_FILE:
        raise ScenarioError(f"{path}: has more than {LARGEST_FILE // 1000} kB; {EXPECTED}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ScenarioError(
            f"{path}:{line}:{column}: is not text in UTF-8; {EXPECTED}, saved as UTF-8"
        ) from None
