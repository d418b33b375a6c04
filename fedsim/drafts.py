"""Files and folders that appear whole or not at all.

Until then a draft lies beside them, held by a lock that ends with its process: so the drafts of
processes that were killed can be told from those being filled, and are removed by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fedsim.errors import ExistsError, InputError

SUFFIX = ".draft"
TAKEN = {errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY}
"""What a system says that renames no folder onto something else."""


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to be filled, then put it in place at once.

    Nothing is left of a failure.

    Raises:
        ExistsError: if `path` is there, or comes meanwhile.
        InputError: if the system cannot make or fill it.
    """
    exists = ExistsError(f"{path}: exists already; nothing was changed")
    if path.exists():
        raise exists
    with _folder_draft(path) as draft:
        yield draft
        draft.chmod(0o755)
        try:
            draft.rename(path)
        except OSError as error:
            if error.errno in TAKEN:
                raise exists from None
            raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to be filled, then put it in place of what is there.

    Whether that may be replaced is for the caller to know. Nothing is left of a failure.

    Raises:
        InputError: if the system cannot make or fill it.
    """
    with _folder_draft(path) as draft:
        yield draft
        draft.chmod(0o755)
        old = draft.with_name(f"{draft.name}.old")
        if path.exists():
            path.rename(old)
        draft.rename(path)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _folder_draft(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _draft(path, tempfile.mkdtemp) as draft:
            yield draft
    except OSError as error:
        raise InputError(f"{path}: cannot be made: {error.strerror or error}") from error


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file beside `path` to be filled, then put it in place at once.

    Raises:
        OSError: if the system cannot make or fill it; nothing is left of it then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _draft(path, _new_file) as draft:
        with draft.open("wb") as file:
            yield file
        draft.replace(path)


def _new_file(suffix: str, prefix: str, dir: Path) -> str:
    handle, name = tempfile.mkstemp(suffix, prefix, dir)
    os.close(handle)
    return name


@contextmanager
def _draft(path: Path, make: Callable[[str, str, Path], str]) -> Iterator[Path]:
    """Yield a new draft; what is left of it at the end is removed."""
    for abandoned in path.parent.glob(f".{glob.escape(path.name)}.????????{SUFFIX}*"):
        with suppress(OSError), _held(abandoned):
            _remove(abandoned)
    draft = Path(make(SUFFIX, f".{path.name}.", path.parent))
    try:
        with _held(draft):
            yield draft
    finally:
        _remove(draft)


@contextmanager
def _held(draft: Path) -> Iterator[None]:
    """Hold the lock of a draft.

    Raises:
        OSError: if another process holds it.
    """
    lock = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        draft.unlink(missing_ok=True)
