"""Parameters that keep their starting weights while the others are trained."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def freeze(module: nn.Module, patterns: Iterable[str]) -> None:
    """Take from training the parameters whose name a pattern fits.

    Raises:
        ValueError: if a pattern fits none, or nothing is left to train.
    """
    parameters = dict(module.named_parameters())
    for pattern in patterns:
        fitting = [name for name in parameters if fnmatchcase(name, pattern)]
        if not fitting:
            raise ValueError(
                f"{pattern!r} fits no parameter of this network, which has {', '.join(parameters)}"
            )
        for name in fitting:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError("every parameter is frozen, so there is nothing to train")
