"""What identifies arrays, however their file was written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def array_hash(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """Return the sha256 over name, dtype, shape and bytes of `arrays`, in order of their names.

    Copies of a file that were zipped anew have another md5 but the same array hash.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
