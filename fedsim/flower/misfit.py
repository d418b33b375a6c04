"""Whether what a site sent back is a trained model at all, before anything computes with it.

Sites of a simulation run fedsim; those of a deployment, and plug-ins, may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flwr.app import ArrayRecord, Message
from torch import Tensor

from fedsim.flower import wire

MOST_NAMED = 3


def misfit(reply: Message, model: Mapping[str, Tensor]) -> str:
    """Return what keeps a reply to `train` from being used, empty if nothing does.

    Args:
        reply: without an error.
        model: that the site was sent.
    """
    metrics: Mapping[str, Any] = reply.content.metric_records.get(wire.METRICS, {})
    for name in (wire.TRAIN_LOSS, wire.NUM_EXAMPLES):
        if not isinstance(metrics.get(name), int | float):
            return f"its reply has no number {name!r}"
    num = metrics[wire.NUM_EXAMPLES]
    if not (math.isfinite(num) and num >= 0):
        return f"its reply says that it trained on {num:g} images"
    arrays = reply.content.array_records.get(wire.ARRAYS)
    return "its reply has no model" if arrays is None else _other(arrays, model)


def _other(arrays: ArrayRecord, model: Mapping[str, Tensor]) -> str:
    """Return how a model differs from the one that was sent in more than its values."""
    if lacking := model.keys() - arrays.keys():
        return f"its model lacks {_named(lacking)}"
    if added := arrays.keys() - model.keys():
        return f"its model has {_named(added)}, which it was not sent"
    for name, sent in model.items():
        found = arrays[name]
        expected = str(sent.dtype).removeprefix("torch."), tuple(sent.shape)
        if (found.dtype, tuple(found.shape)) != expected:
            told = f"{found.dtype} {list(found.shape)}"
            return f"its model has {name} as {told}, was sent {expected[0]} {list(expected[1])}"
    return ""


def _named(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:MOST_NAMED])
    more = len(names) - MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
