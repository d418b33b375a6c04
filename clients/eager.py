"""torch's optimisers without what they do for its compiler: the same steps, to the same bits.

Methods of `torch.optim` ask first whether a compiler is at work, and load it to ask: a second at
the start of every process that trains, and a third of one at its end.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.optim import SGD, AdamW, Optimizer


def _bare(method: Any) -> Any:
    """Return a method of torch's as it is written, without its decorators."""
    return inspect.unwrap(method)


class EagerSgd(SGD):
    """torch.optim.SGD."""

    add_param_group = _bare(Optimizer.add_param_group)
    zero_grad = _bare(Optimizer.zero_grad)
    step = torch.no_grad()(_bare(SGD.step))


class EagerAdamW(AdamW):
    """torch.optim.AdamW."""

    add_param_group = _bare(Optimizer.add_param_group)
    zero_grad = _bare(Optimizer.zero_grad)
    step = torch.no_grad()(_bare(AdamW.step))
