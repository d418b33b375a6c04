"""Freed memory stays with the process."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from fedsim.engines.allocator import freed_memory_kept


def faults() -> int:
    """Return how many pages the system had to hand out while tensors were made and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        large = [torch.zeros(2**20) for _ in range(20)]
        del large
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has the settings")
def test_memory_that_is_freed_is_not_asked_of_the_system_again() -> None:
    num_pages = 20 * 20 * 2**22 // resource.getpagesize()
    with freed_memory_kept():
        faults()
        assert faults() < num_pages / 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has the settings")
def test_memory_goes_back_at_the_end() -> None:
    def resident() -> int:
        with open("/proc/self/statm", encoding="utf-8") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize()

    before = resident()
    with freed_memory_kept():
        faults()
        assert resident() - before > 60 * 2**20
    assert resident() - before < 20 * 2**20
