"""Reading single arrays of an npz file that nobody vouches for: no pickles, no lying headers."""

from __future__ import annotations

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
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zlib.error,
)
"""What numpy and zipfile raise on damaged files."""


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
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(file)
        num_bytes -= file.tell()
    if dtype.hasobject:
        raise DataError(
            f"{path}: {key} holds Python objects, and reading those could run code of their "
            "author: save it as numbers or text, such as np.array(names, dtype=str)"
        )
    if num_bytes != prod(shape) * dtype.itemsize:
        raise DataError(
            f"{path}: {key} is damaged: {num_bytes} bytes are there for {dtype} {shape}"
        )
    return tuple(shape), dtype


@contextmanager
def _opened(path: Path, key: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open an array as a file in .npy format; yield it and its length in bytes."""
    with readable(path, key), zipfile.ZipFile(path) as file:
        names = [name.removesuffix(".npy") for name in file.namelist()]
        info = file.getinfo(f"{_known(path, key, names)}.npy")
        with file.open(info) as array:
            yield array, info.file_size


def _known(path: Path, key: str, names: list[str]) -> str:
    if key not in names:
        near = get_close_matches(key, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{path}: has no array {key!r}{hint} (it has {', '.join(names)})")
    return key


@contextmanager
def readable(path: Path, key: str) -> Iterator[None]:
    """Turn what numpy, zip and the system say of a damaged file into a DataError."""
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
