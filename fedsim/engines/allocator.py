"""Freed memory that stays with the process, because training asks for it again at every step.

Activations and gradients are freed and made anew in every step. Unless told otherwise, glibc may
give them back to the system each time, which hands them out again page by page and zeroed: up to a
quarter of the time of a small network. No value changes. Pieces of 8 MiB and more still come and
go, as what is small and stays would break up the place of large layers. Elsewhere than on glibc
nothing is done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of settings, in glibc's malloc.h: what is kept at the top, what is mapped by itself."""
KEPT = {TRIM_THRESHOLD: 2**30, MMAP_THRESHOLD: 2**23}
ADAPTED = {TRIM_THRESHOLD: 2**26, MMAP_THRESHOLD: 2**25}
"""Where glibc's own adaptation of the settings ends."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed in the block, and give it back at the end."""
    c = ctypes.CDLL(None)
    if not hasattr(c, "mallopt"):
        yield
        return
    for setting, value in KEPT.items():
        c.mallopt(setting, value)
    try:
        yield
    finally:
        for setting, value in ADAPTED.items():
            c.mallopt(setting, value)
        c.malloc_trim(0)
