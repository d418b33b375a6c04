"""A layer's client updates, (site, *shape), read a few columns at a time.

Stacks are large, so they are never copied or widened as a whole. The chunks are fixed, so a result
repeats bit for bit on the same machine with the same number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_ELEMENTS = 2**18
"""Elements of a stack, over all sites, that are widened at a time: 2 MiB in float64."""


def rows(stack: Tensor) -> Tensor:
    """Return a stack as a matrix, (site, element), also for scalar and for empty layers."""
    return stack.reshape(len(stack), stack.shape[1:].numel())


def chunks(elements: Tensor, width: int) -> tuple[Tensor, ...]:
    """Return views of some columns each, which follow each other along the last axis."""
    return torch.split(elements, max(1, width), dim=-1)


def over_sites(stack: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what a rule makes of every column: (*shape), dtype and device of the stack.

    Args:
        stack: the updates of one layer, (site, *shape), floating point.
        rule: from (site, element) to (element,), float64.
    """
    matrix = rows(stack)
    result = stack.new_empty(matrix.shape[1])
    width = CHUNK_ELEMENTS // len(matrix)
    for source, target in zip(chunks(matrix, width), chunks(result, width), strict=True):
        target.copy_(rule(source.double()))
    return result.reshape(stack.shape[1:])


def squares(stack: Tensor) -> Tensor:
    """Return the squared norm of each site's update: (site,), float64, on the CPU."""
    parts = chunks(rows(stack), CHUNK_ELEMENTS // len(stack))
    return torch.stack([part.double().square().sum(dim=1) for part in parts]).sum(dim=0).cpu()
