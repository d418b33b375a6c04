"""Which picture files there are and what is known of each: a CSV manifest, or a tree of folders."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fedsim.data.pictures import SUFFIXES
from fedsim.data.source import SITE, Split
from fedsim.errors import DataError

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
LAYOUTS = "site/split/class/*, site/class/*, split/class/* or class/*"


@dataclass(frozen=True)
class Row:
    """One picture.

    Args:
        path: relative to the root, inside it.
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
        return _folder(path)
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; expected a CSV manifest or a folder"
        ) from error
    return _csv(path, root or path.parent, (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=4)
def _csv(path: Path, root: Path, stamp: tuple[int, int]) -> Manifest:
    """Return the manifest; `stamp` changes when the file does."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    if "\0" in text:
        raise DataError(f"{path}: is no text; expected a CSV manifest")
    try:
        lines = [(n, line) for n, line in _lines(text) if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise DataError(f"{path}: is no CSV: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{path}: is empty; expected a line of headings, then one per picture")
    headings = _headings(path, lines[0][1])
    problems: list[str] = []
    rows, home = [], root.resolve()
    for number, cells in lines[1:]:
        where = f"{path}:{number}"
        if len(cells) != len(headings):
            problems.append(f"{where}: has {len(cells)} cells, the headings {len(headings)}")
            continue
        row = _row(dict(zip(headings, map(str.strip, cells), strict=True)))
        problems += [f"{where}: {problem}" for problem in _amiss(row, root, home)]
        rows.append(row)
    problems += [f"{path}: {problem}" for problem in _together(rows)]
    _refuse(problems)
    known = [Row(r.path, r.label, SPLIT_WORDS.get(r.split.lower(), ""), r.columns) for r in rows]
    return Manifest(root, tuple(known))


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    before = 0
    for line in reader:
        yield before + 1, line
        before = reader.line_num


def _headings(path: Path, cells: list[str]) -> list[str]:
    headings = [cell.strip().lower() for cell in cells]
    missing = [name for name in (PATH, LABEL) if name not in headings]
    if missing:
        raise DataError(
            f"{path}:1: lacks the columns {', '.join(missing)}; it has {', '.join(headings)}, "
            "expected path,label,site[,patient,split]"
        )
    twice = sorted({name for name in headings if headings.count(name) > 1})
    if twice or "" in headings:
        raise DataError(f"{path}:1: every column needs a name of its own: {', '.join(headings)}")
    return headings


def _row(cells: dict[str, str]) -> Row:
    columns = {name: cell for name, cell in cells.items() if name not in (PATH, LABEL, SPLIT)}
    return Row(cells[PATH], cells[LABEL], cells.get(SPLIT, ""), columns)


def _amiss(row: Row, root: Path, home: Path) -> Iterator[str]:
    """Yield what is wrong with one row."""
    if not row.label:
        yield "label: is empty"
    if row.split and row.split.lower() not in SPLIT_WORDS:
        yield f"split: expected train, validation or test, got {row.split!r}"
    if not row.path:
        yield "path: is empty"
    elif problem := _outside(root, home, row.path):
        yield f"path: {problem}"


def _outside(root: Path, home: Path, path: str) -> str:
    """Return why a picture cannot be taken, or nothing; it must lie inside the resolved root."""
    file = root / path
    if not file.resolve().is_relative_to(home):
        return (
            f"{path} leads out of {root}; pictures must lie inside it, and links must not leave "
            "it (`root` names another folder)"
        )
    return "" if file.is_file() else f"{path} is no file in {root}"


def _together(rows: list[Row]) -> Iterator[str]:
    """Yield what is wrong with the rows as a whole."""
    seen: set[str] = set()
    for row in rows:
        if row.path in seen:
            yield f"path: {row.path} is listed twice"
        seen.add(row.path)
    with_split = sum(bool(row.split) for row in rows)
    if 0 < with_split < len(rows):
        yield f"split: {len(rows) - with_split} of {len(rows)} rows have none; fill in all or none"
    if with_split == len(rows) and "train" not in {
        SPLIT_WORDS.get(row.split.lower()) for row in rows
    }:
        yield "split: no row is for training"


def _refuse(problems: list[str]) -> None:
    if problems:
        more = len(problems) - MOST_PROBLEMS
        shown = problems[:MOST_PROBLEMS] + ([f"... and {more} more"] if more > 0 else [])
        raise DataError("\n".join(shown))


def _folder(root: Path) -> Manifest:
    files = sorted(_pictures(root))
    if not files:
        raise DataError(f"{root}: holds no pictures; expected {LAYOUTS} with {_suffixes()}")
    depths = {len(file.parts) for file in files}
    if len(depths) > 1 or not 2 <= min(depths) <= 4:
        odd = next(f for f in files if len(f.parts) == max(depths))
        raise DataError(
            f"{root}: pictures lie {' and '.join(map(str, sorted(n - 1 for n in depths)))} folders "
            f"deep, such as {odd}; expected {LAYOUTS}"
        )
    names, home = _names(files), root.resolve()
    rows = [_placed(file, names) for file in files]
    _refuse(
        [f"{root}: {p}" for r in rows if (p := _outside(root, home, r.path))]
        + [f"{root}: {p}" for p in _together(rows)]
    )
    return Manifest(root, tuple(rows))


def _pictures(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield inside


def _names(files: Iterable[Path]) -> tuple[str, ...]:
    """Return what the folders on the way to a picture stand for."""
    folders = [file.parts[:-1] for file in files]
    if len(folders[0]) == 3:
        return (SITE, SPLIT, LABEL)
    if len(folders[0]) == 2:
        splits = all(parts[0].lower() in SPLIT_WORDS for parts in folders)
        return (SPLIT if splits else SITE, LABEL)
    return (LABEL,)


def _placed(file: Path, names: tuple[str, ...]) -> Row:
    found = dict(zip(names, file.parts, strict=False))
    columns = {SITE: found[SITE]} if SITE in found else {}
    split = found.get(SPLIT, "")
    return Row(file.as_posix(), found[LABEL], SPLIT_WORDS.get(split.lower(), split), columns)


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))
