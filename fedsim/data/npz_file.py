"""Reading single arrays of an npz file that nobody vouches for: no pickles, no lying headers.

What an array takes is known from the directory of the file and from its header, and is compared
with what can be, before anything of it is unpacked.
"""

from __future__ import annotations

import io
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fedsim.errors import DataError

Array = NDArray[Any]
DAMAGE = (
    EOFError,
    KeyError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zlib.error,
)
"""What numpy and zipfile raise on damaged files."""
LONGEST_HEADER = 10_012
"""Bytes in which numpy's own limit of 10,000 characters ends."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How np.savez and np.savez_compressed write."""
MOST_UNPACKED = 1032
"""Bytes that a byte of deflate's can become at most."""
NAMES_SHOWN = 10


def array(path: Path, key: str) -> Array:
    """Return an array of the file.

    Raises:
        DataError: if it is not there, damaged, or holds Python objects.
    """
    header(path, key)
    with _opened(path, key) as (file, _):
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype of an array without reading it.

    Raises:
        DataError: if it holds Python objects, or fewer or more bytes than its shape takes.
    """
    with _opened(path, key) as (file, num_bytes):
        start = io.BytesIO(file.read(LONGEST_HEADER))
        version = np.lib.format.read_magic(start)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(start)
        num_bytes -= start.tell()
    if dtype.hasobject:
        raise DataError(
            f"{path}: {key} holds Python objects, and reading those could run code of their "
            "author: save it as numbers or text, such as np.array(names, dtype=str)"
        )
    impossible = min(shape, default=0) < 0 or (0 not in shape and not dtype.itemsize)
    if impossible or num_bytes != prod(shape) * dtype.itemsize:
        raise DataError(
            f"{path}: {key} is damaged: {num_bytes} bytes are there for {dtype} {shape}"
        )
    if num_bytes > (most := _memory()):
        raise DataError(
            f"{path}: {key} takes {num_bytes / 1e9:,.0f} GB, and this computer has "
            f"{most / 1e9:,.0f} GB of memory: use fewer or smaller images"
        )
    return tuple(shape), dtype


def names(path: Path) -> list[str]:
    """Return the names of the arrays, read from the file's directory alone.

    Raises:
        DataError: if the file cannot be read.
    """
    with readable(path, "the file"), zipfile.ZipFile(path) as file:
        return _names(file)


@contextmanager
def _opened(path: Path, key: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open an array as a file in .npy format; yield it and its length in bytes."""
    with readable(path, key), zipfile.ZipFile(path) as file:
        info = file.getinfo(f"{_known(path, key, _names(file))}.npy")
        _check_packing(path, key, info)
        with file.open(info) as array:
            yield array, info.file_size


def _names(file: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in file.namelist()]


def _known(path: Path, key: str, names: list[str]) -> str:
    if key not in names:
        near = get_close_matches(key, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        more = len(names) - NAMES_SHOWN
        there = ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        raise DataError(f"{path}: has no array {key!r}{hint} (it has {there})")
    return key


def _check_packing(path: Path, key: str, info: zipfile.ZipInfo) -> None:
    """Refuse an array that says to be longer than it can be.

    Raises:
        DataError: if it is packed by another method than numpy's, or longer.
    """
    if info.compress_type not in METHODS:
        raise DataError(
            f"{path}: {key} is packed as numpy never does (method {info.compress_type}): write the "
            "file with np.savez or np.savez_compressed"
        )
    packed = min(info.compress_size, path.stat().st_size)
    if info.file_size > MOST_UNPACKED * packed:
        raise DataError(
            f"{path}: {key} is damaged: {packed} packed bytes cannot become {info.file_size}"
        )


def _memory() -> int:
    """Return the bytes of memory of this computer."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def readable(path: Path, key: str) -> Iterator[None]:
    """Turn what numpy, zip and the system say of a damaged file into a DataError.

    A pipe, a device or a folder is refused unread: reading one might never end.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no file; expected an npz file, as np.savez writes them")
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path}: {key} cannot be read, the file is damaged or no npz file (np.savez writes "
            f"them): {error}"
        ) from error
    except DAMAGE as error:
        raise DataError(f"{path}: {key} cannot be read: {error}") from error


def stamp(path: Path) -> tuple[int, int]:
    """Return what changes when the file does."""
    with readable(path, "the file"):
        stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
