"""Which picture files there are and what is known of each: a CSV manifest, or a tree of folders."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NoReturn

import numpy as np
from pydantic import AfterValidator, Field

from fedsim.data.names import Name
from fedsim.data.pictures import HOW_TO_CONVERT, SUFFIXES, of_scanner
from fedsim.data.source import SITE, SPLITS, Split
from fedsim.errors import DataError
from fedsim.spreadsheet import unguarded

PATH, LABEL, SPLIT = "path", "label", "split"
SPLIT_WORDS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
MOST_PROBLEMS = 10
LARGEST = float(np.finfo(np.float32).max)
"""Number that a column may hold."""
LAYOUTS = "site/split/class/*, site/class/*, split/class/* or class/*"
DEEPEST = 8
"""Folders below which none is looked into, for links may lead in circles."""


def _distinct(names: tuple[Name, ...]) -> tuple[Name, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"expected names that differ, got {', '.join(names)}")
    return names


ClassNames = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_distinct)]
"""The labels of a source in their order."""


@dataclass(frozen=True)
class Row:
    """One picture.

    Args:
        path: relative to the root, inside it, written in the shortest way.
        label: the class it shows.
        split: train, validation, test, or empty.
        columns: what else is known, such as site and patient.
    """

    path: str
    label: str
    split: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """All pictures of a source.

    Args:
        root: folder that paths are relative to.
        rows: in the order of the file, or of the sorted paths.
    """

    root: Path
    rows: tuple[Row, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns beside path, label and split."""
        return tuple(self.rows[0].columns)

    def digest(self) -> str:
        """Return the SHA-256 over all rows, hexadecimal."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(repr((row.path, row.label, row.split, dict(row.columns))).encode())
        return digest.hexdigest()


def read(path: Path, root: Path | None) -> Manifest:
    """Read a CSV manifest or a folder of pictures.

    Args:
        path: of the manifest or folder.
        root: that the manifest's paths are relative to; its own folder if not given.

    Raises:
        DataError: naming line and column of up to ten problems.
    """
    if path.is_dir():
        if root is not None:
            raise DataError(f"{path}: is a folder; `root` goes with a CSV manifest alone")
        return _folder(path, tuple(sorted(_pictures(path))))
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; expected a CSV manifest or a folder"
        ) from error
    if not path.is_file():
        raise DataError(f"{path}: is no file; expected a CSV manifest or a folder")
    return _csv(path, root or path.parent, (stat.st_mtime_ns, stat.st_size))


def number(cell: str) -> float | None:
    """Return the number that a cell holds, None if it is none, infinite, or too large."""
    try:
        found = float(cell)
    except ValueError:
        return None
    return found if abs(found) <= LARGEST else None


@lru_cache(maxsize=4)
def _csv(path: Path, root: Path, stamp: tuple[int, int]) -> Manifest:
    """Return the manifest; `stamp` changes when the file does."""
    if not root.is_dir():
        raise DataError(f"{path}: the folder of its pictures, {root}, does not exist")
    lines = _lines(path)
    headings = _headings(path, lines[0][1])
    roots = (root, root.resolve())
    rows: dict[int, Row] = {}
    problems: list[tuple[int, str]] = []
    for number, cells in lines[1:]:
        if len(cells) == len(headings):
            rows[number] = _row(dict(zip(headings, map(_plain, cells), strict=True)), roots)
        else:
            problems.append((number, f"has {len(cells)} cells, the headings {len(headings)}"))
    problems += [*_amiss(rows, root), *_twice(rows), *_without_split(rows)]
    refuse([f"{path}:{number}: {problem}" for number, problem in sorted(problems)])
    return Manifest(root, _with_training(path, tuple(rows.values())))


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return number and cells of every line that is not blank, the headings first."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text (UTF-8): {error}") from error
    if "\0" in text:
        raise DataError(f"{path}: is no text; expected a CSV manifest")
    try:
        lines = [(n, cells) for n, cells in _numbered(text) if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DataError(f"{path}: is no CSV: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{path}: is empty; expected a line of headings, then one per picture")
    return lines


def _numbered(text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    before = 0
    for cells in reader:
        yield before + 1, cells
        before = reader.line_num


def _plain(cell: str) -> str:
    return unguarded(cell.strip())


def _headings(path: Path, cells: list[str]) -> list[str]:
    headings = [_plain(cell).lower() for cell in cells]
    if missing := [name for name in (PATH, LABEL) if name not in headings]:
        near = [(name, get_close_matches(name, headings, 1, 0.7)) for name in missing]
        hint = "".join(f" (is {found[0]} the {name}?)" for name, found in near if found)
        raise DataError(
            f"{path}:1: lacks the columns {', '.join(missing)}; "
            f"it has {', '.join(headings)}{hint}; "
            "expected path,label,site[,patient,split], separated by commas"
        )
    if "" in headings or len(set(headings)) < len(headings):
        raise DataError(f"{path}:1: every column needs a name of its own: {', '.join(headings)}")
    return headings


def _row(cells: dict[str, str], roots: tuple[Path, ...]) -> Row:
    columns = {name: cell for name, cell in cells.items() if name not in (PATH, LABEL, SPLIT)}
    split = cells.get(SPLIT, "")
    return Row(
        _shortest(cells[PATH], roots), cells[LABEL], SPLIT_WORDS.get(split.lower(), split), columns
    )


def _shortest(path: str, roots: tuple[Path, ...]) -> str:
    """Return a path relative to the root where it is inside: one way of writing for each file."""
    if not path:
        return ""
    short = Path(os.path.normpath(path))
    for root in roots:
        if short.is_relative_to(root):
            return short.relative_to(root).as_posix()
    return short.as_posix()


def _amiss(rows: Mapping[int, Row], root: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of what is wrong with single rows."""
    home = root.resolve()
    folders = {number: Path(row.path).parent for number, row in rows.items()}
    inside = {folder: _is_inside(root / folder, home) for folder in set(folders.values())}
    named = {row.path for row in rows.values() if row.path}
    absent = {path for path in named if not _is_file(root / path)}
    others = f" (nor are {len(absent) - 1} others)" if len(absent) > 1 else ""
    searched = {Path(path).parent for path in absent}
    there = {folder: _by_look(root / folder) for folder in searched if inside[folder]}
    foreign = [number for number, row in rows.items() if of_scanner(row.path)]
    for number, row in rows.items():
        if not row.label:
            yield number, "label: is empty"
        if row.split and row.split not in SPLITS:
            yield number, f"split: expected train, validation or test, got {row.split!r}"
        if not row.path:
            yield number, "path: is empty"
        elif not inside[folders[number]] or _links_out(root / row.path, home):
            yield number, f"path: {_out(row.path, root)} (`root` names another folder)"
        elif row.path in absent:
            name = Path(row.path).name
            near = there[folders[number]].get(_look(name), name)
            hint = f"; {near} is there, in other letters or another form of Unicode"
            hint *= near != name
            yield number, f"path: {row.path} {_absence(root / row.path)} in {root}{hint}{others}"
    for number in foreign[:1]:
        others = f" (and {len(foreign) - 1} others)" if len(foreign) > 1 else ""
        yield number, f"path: {rows[number].path}{others}: {HOW_TO_CONVERT}"


def _is_inside(path: Path, home: Path) -> bool:
    """Return whether a path, once its links are followed, lies inside the resolved root."""
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # a loop of links: no file either
        return True


def _links_out(file: Path, home: Path) -> bool:
    """Return whether a file in a folder that lies inside the root is a link that leaves it."""
    try:
        return file.is_symlink() and not _is_inside(file, home)
    except OSError:  # such as a name that is too long: no file
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _absence(path: Path) -> str:
    """Return what is amiss with what is no file that can be read."""
    try:
        path.stat()
    except PermissionError:
        return "may not be read"
    except OSError:
        pass
    return "is no file"


def _by_look(folder: Path) -> dict[str, str]:
    """Return the names in a folder by what they look like."""
    try:
        return {_look(name): name for name in os.listdir(folder)}  # noqa: PTH208 (names alone)
    except (OSError, ValueError):
        return {}


def _look(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _out(path: str, root: Path) -> str:
    return f"{path} leads out of {root}; pictures must lie inside it, and links must not leave it"


def _twice(rows: Mapping[int, Row]) -> Iterator[tuple[int, str]]:
    first: dict[str, int] = {}
    for number, row in rows.items():
        if row.path and first.setdefault(row.path, number) != number:
            yield number, f"path: {row.path} is listed twice, first in line {first[row.path]}"


def _without_split(rows: Mapping[int, Row]) -> Iterator[tuple[int, str]]:
    without = [number for number, row in rows.items() if not row.split]
    if 0 < len(without) < len(rows):
        yield (
            without[0],
            f"split: {len(without)} of {len(rows)} rows have none, this is the first; fill in all "
            "or none",
        )


def _with_training(origin: Path, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return the rows.

    Raises:
        DataError: if they have splits, but none for training.
    """
    splits = {row.split for row in rows}
    if splits != {""} and "train" not in splits:
        raise DataError(
            f"{origin}: split: no row is for training, only {', '.join(sorted(splits))}"
        )
    return rows


def refuse(problems: list[str]) -> None:
    """Tell up to ten problems, one a line.

    Raises:
        DataError: if there are any.
    """
    if problems:
        more = len(problems) - MOST_PROBLEMS
        shown = problems[:MOST_PROBLEMS] + ([f"... and {more} more"] if more > 0 else [])
        raise DataError("\n".join(shown))


def _pictures(root: Path) -> Iterator[str]:
    """Yield the paths of all that is called a picture, relative to the root.

    Raises:
        DataError: if a linked folder leads out of the root, or a folder cannot be read.
    """
    home = root.resolve()
    for place, folders, files in os.walk(root, onerror=_unreadable, followlinks=True):
        inside = Path(place).relative_to(root)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if len(inside.parts) >= DEEPEST:
            folders.clear()
        for name in folders:
            if _links_out(Path(place, name), home):
                raise DataError(f"{root}: {_out(str(inside / name), root)}")
        for name in files:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield (inside / name).as_posix()


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4)
def _folder(root: Path, files: tuple[str, ...]) -> Manifest:
    """Return the manifest that the names of these files and their folders spell."""
    if not files:
        foreign = any(of_scanner(file.name) for file in root.rglob("*"))
        raise DataError(
            f"{root}: holds no pictures; expected {LAYOUTS} with {_suffixes()}"
            + f". {HOW_TO_CONVERT}" * foreign
        )
    paths = [tuple(file.split("/")) for file in files]
    names = _names(root, paths)
    rows = {n: _placed(parts, names) for n, parts in enumerate(paths)}
    refuse([f"{root}: {problem}" for _, problem in _amiss(rows, root)])
    return Manifest(root, _with_training(root, tuple(rows.values())))


def _names(root: Path, paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return what the folders on the way to a picture stand for.

    Raises:
        DataError: if the pictures lie at several depths, or some folders alone are splits.
    """
    depths = sorted({len(parts) - 1 for parts in paths})
    if len(depths) > 1 or not 1 <= depths[0] <= 3:
        odd = next(parts for parts in paths if len(parts) - 1 == depths[-1])
        raise DataError(
            f"{root}: pictures lie {' and '.join(map(str, depths))} folders deep, such as "
            f"{'/'.join(odd)}; expected {LAYOUTS}"
        )
    if depths == [1]:
        return (LABEL,)
    level = depths[0] - 2
    others = [parts for parts in paths if parts[level].lower() not in SPLIT_WORDS]
    if depths == [2] and len(others) == len(paths):
        return (SITE, LABEL)
    if others:
        raise DataError(
            f"{root}: {'/'.join(others[0])} lies in no folder for train, validation or test; "
            f"expected {LAYOUTS}"
        )
    return (SITE, SPLIT, LABEL)[-depths[0] :]


def _placed(parts: tuple[str, ...], names: tuple[str, ...]) -> Row:
    found = dict(zip(names, parts, strict=False))
    columns = {SITE: found[SITE]} if SITE in found else {}
    split = SPLIT_WORDS[found[SPLIT].lower()] if SPLIT in found else ""
    return Row("/".join(parts), found[LABEL], split, columns)


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))
