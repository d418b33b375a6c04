"""Files that are either whole or not there, and files that only grow."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedsim.errors import InputError, RunError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing `path` (full disk, no permission) into a RunError.

    Raises:
        RunError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary neighbour of `path`, then put it in place at once.

    A failed write leaves the old file as it was; a killed one also a temporary file, see `sweep`.

    Raises:
        RunError: if the system cannot write the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes that were killed; no other may be writing here."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file."""
    write_whole(path, lambda temporary: _write(temporary, content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_line(row: dict[str, Any]) -> str:
    """Return a row as one line of JSON; floats keep every bit, undefined is null."""
    return json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n"


def cut_torn_line(path: Path) -> None:
    """Remove a last line that a crash left without its end."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


class Journal:
    """A JSON Lines file that only grows.

    A run that goes on from a checkpoint makes again the rows after it. Rows that are there already
    must come out equal and are left alone; so what is recorded is never rewritten, and a machine
    that does not repeat the bits is noticed. Rows appended here are not kept in memory.

    Args:
        path: the file; made if missing. A last line cut off by a crash is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        cut_torn_line(path)
        self._begin()

    def seal(self) -> dict[str, Any]:
        """Return how many rows there are up to now and their SHA-256."""
        return {"num_rows": self._position, "sha256": self._digest.hexdigest()}

    def skip(self, seal: Mapping[str, Any]) -> None:
        """Go on after the rows that were there when `seal` was made.

        Raises:
            InputError: if they are no longer there, or changed.
        """
        check_seal(self.path, seal)
        self._begin()
        for line in self._recorded[: seal["num_rows"]]:
            self._pass(line)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows, all in one write that is on disk when this returns.

        Raises:
            RunError: if a row differs from the one recorded in its place, or the file cannot be
                written.
            ValueError: if a row holds a float that is not finite; nothing is written then.
        """
        fresh = []
        for line in [to_line(row) for row in rows]:
            if self._position >= len(self._recorded):
                fresh.append(line)
            elif self._recorded[self._position] != line:
                raise RunError(
                    f"{self.path}: the replayed run differs from what is recorded on line "
                    f"{self._position + 1}; recorded: {self._recorded[self._position].strip()}; "
                    f"now: {line.strip()}. Were hardware or versions changed?"
                )
            else:
                self._pass(line)
        if fresh:
            with writing(self.path), self.path.open("ab") as file:
                file.write("".join(fresh).encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            for line in fresh:
                self._pass(line)

    def _begin(self) -> None:
        """Stand before the first row, and know those that are there."""
        self._recorded = [line + "\n" for line in _lines(self.path.read_bytes())]
        self._position, self._digest = 0, hashlib.sha256()

    def _pass(self, line: str) -> None:
        self._position += 1
        self._digest.update(line.encode("utf-8"))


def check_seal(path: Path, seal: Mapping[str, Any]) -> None:
    """Check that the rows that were there when a journal gave `seal` still are, as they were.

    Raises:
        InputError: if they are no longer there, or changed.
    """
    lines = path.read_bytes().split(b"\n")[:-1][: seal["num_rows"]]
    if hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest() != seal["sha256"]:
        raise InputError(
            f"{path}: rows that the checkpoint builds on are missing or changed; put the file back "
            "as it was"
        )


def check_whole(path: Path) -> None:
    """Check that no crash or copy cut off the last line of a JSON Lines file.

    Raises:
        InputError: if it is empty or its last line has no end.
    """
    if not path.read_bytes().endswith(b"\n"):
        raise InputError(
            f"{path}: is empty or its last line is cut off, so that it may say too little; put "
            "the file back as it was"
        )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file; a last line cut off by a crash is left out.

    Raises:
        ValueError: naming the line that is none.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    lines = _lines(content[: content.rfind(b"\n") + 1])
    return [_parsed(number, line) for number, line in enumerate(lines, start=1)]


def _parsed(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is no JSON: {error}") from error


def _lines(content: bytes) -> list[str]:
    """Return the lines; unlike `splitlines`, which also cuts at characters that JSON keeps."""
    return [line.decode("utf-8") for line in content.split(b"\n")[:-1]]
