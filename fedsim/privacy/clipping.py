"""Clip a client update to a norm over the whole model, and add noise to it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def norm(update: Mapping[str, Tensor]) -> float:
    """Return the length of an update over the whole model; not finite if a value is not."""
    return math.sqrt(sum(float(value.double().square().sum()) for value in update.values()))


def clip_factor(length: float, clip_norm: float) -> float:
    """Return what to multiply an update of this length with, so that none is longer than C.

    >>> clip_factor(0.0, 1.0), clip_factor(4.0, 1.0)
    (1.0, 0.25)
    """
    return 1.0 if length <= clip_norm else clip_norm / length


def add_noise(values: Tensor, std: float, generator: torch.Generator) -> None:
    """Add Gaussian noise, drawn on the CPU in double precision so that every device has the same.

    Args:
        values: floating point, changed in place.
        std: standard deviation.
        generator: on the CPU.
    """
    drawn = torch.randn(values.shape, generator=generator, dtype=torch.float64)
    values.add_(drawn.mul_(std).to(values.device))


def noisy_model(
    start: Mapping[str, Tensor],
    local: Mapping[str, Tensor],
    clip_norm: float,
    std: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return a local model whose update is clipped and noised; one that is not finite is zero.

    Args:
        start: parameters that the site started from, by name.
        local: what it made of them; same names.
        clip_norm: C.
        std: standard deviation of the noise on every number.
        generator: of the noise, on the CPU.
    """
    update = {name: local[name].double() - start[name].double() for name in local}
    length = norm(update)
    released = {}
    for name, value in update.items():
        finite = math.isfinite(length)
        short = value * clip_factor(length, clip_norm) if finite else torch.zeros_like(value)
        add_noise(short, std, generator)
        released[name] = (start[name].double() + short).to(local[name].dtype)
    return released
