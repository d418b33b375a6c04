"""Gaussian noise in double precision, which torch draws one number at a time on a CPU.

In single precision, torch's normal numbers end at 5.77 standard deviations, and what a unit moves
beyond them could be told with more than delta.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BLOCK = 16
"""Numbers that torch makes of one another at a time."""


def standard_normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return independent standard normal numbers, float64, on the generator's device.

    They are those of `torch.normal`, but for the rounding of logarithms and cosines in the last of
    53 bits; on a CPU they take two thirds of its time, as its transform (Box and Muller, 1958) is
    made here of all numbers at once.

    Args:
        shape: of what is returned.
        generator: moved on as `torch.normal` moves it.
    """
    import torch

    num = shape.numel()
    if generator.device.type != "cpu" or num < BLOCK:
        return torch.normal(
            0.0, 1.0, shape, generator=generator, device=generator.device, dtype=torch.float64
        )
    numbers = torch.rand(num, generator=generator, device=generator.device, dtype=torch.float64)
    _transform(numbers[: num - num % BLOCK])
    if num % BLOCK:
        last = numbers[-BLOCK:]
        last.uniform_(generator=generator)
        _transform(last)
    return numbers.view(shape)


def _transform(uniform: Tensor) -> None:
    """Make normal numbers of uniform ones, in place, half a block of each other half."""
    import torch

    first, second = uniform.view(-1, 2, BLOCK // 2).unbind(1)
    radius = (1 - first).log_().mul_(-2).sqrt_()
    angle = second * (2 * math.pi)
    torch.mul(radius, angle.cos(), out=first)
    torch.mul(radius, angle.sin_(), out=second)
