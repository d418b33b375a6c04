"""Arrays kept on disk between runs, in one folder, verified at every use.

A cached file is a plain .npy file followed by the SHA-256 of its bytes, so that one atomic rename
publishes both. A file that is cut short or changed is made again; a folder that cannot be written
only means that nothing is kept.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsim.drafts import whole_file

_log = logging.getLogger("fedsim")
DIGEST_BYTES = 32


def folder() -> Path:
    """Return the cache folder: FEDSIM_CACHE_DIR if set, else the user's cache folder for fedsim."""
    chosen = os.environ.get("FEDSIM_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import pooch

    return Path(pooch.os_cache("fedsim"))


def load_or_make(
    name: str, shape: tuple[int, ...], make: Callable[[], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Return the cached array of this name, or make it and try to keep it.

    Args:
        name: of the file inside the cache folder; it must say everything that `make` depends on.
        shape: of the array.
        make: returns the array, of this shape, uint8.

    Returns:
        the array, memory-mapped and read-only where it is on disk.

    Raises:
        ValueError: if the name is not a plain file name.
    """
    if Path(name).name != name:
        raise ValueError(f"expected a plain file name, got {name!r}")
    path = folder() / name
    cached = _load(path, shape)
    if cached is not None:
        return cached
    array = make()
    try:
        _store(path, array)
    except OSError as error:
        _log.warning("cannot keep %s for the next run: %s", path, error)
    return array


def _load(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return the intact array in this file, or None."""
    try:
        if not path.is_file():
            return None
        content = np.memmap(path, np.uint8, mode="r")
        digest = hashlib.sha256(content[:-DIGEST_BYTES].data).digest()
        intact = content[-DIGEST_BYTES:].tobytes() == digest
        array = np.load(path, mmap_mode="r", allow_pickle=False) if intact else None
    except (OSError, ValueError) as error:
        _log.warning("cannot read the cached file %s: %s", path, error)
        return None
    if array is None or array.shape != shape or array.dtype != np.uint8:
        _log.warning("the cached file %s is damaged and will be made again", path)
        return None
    return np.asanyarray(array, np.uint8)


def _store(path: Path, array: NDArray[np.uint8]) -> None:
    """Write the array under this path in one step; another process sees all of it or nothing.

    Raises:
        OSError: if that is impossible, or if something other than a regular file is in the way.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise FileExistsError(f"{path} is no regular file")
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    digest = hashlib.sha256(content.getbuffer()).digest()
    with whole_file(path) as file:
        file.write(content.getbuffer())
        file.write(digest)
