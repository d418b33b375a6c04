"""What a few calls of a network tell of its cost: operations counted, seconds taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from clients.batch import Batch
from clients.training import Plan
from fedsim.fleet.footprint import count_flops
from fedsim.flower.regularised import rehearse
from fedsim.flower.workplace import Workplace

PROBE_S = 1.5
"""Seconds after which no more calls are timed, of training and of evaluation each."""
MAX_CALLS = 20


@dataclass(frozen=True)
class Probe:
    """What a few calls of the network tell.

    Args:
        forward_flops: floating-point operations of one image forwards.
        training_flops: those of one image in a training step, on average over a batch.
        seconds_step: the time of one training step.
        seconds_image: the time of evaluating one image.
    """

    forward_flops: int
    training_flops: int
    seconds_step: float
    seconds_image: float


def measure(workplace: Workplace, batch: Batch, many: Batch) -> Probe:
    """Count and time what was tried before.

    Args:
        workplace: of the run.
        batch: examples of a training step.
        many: examples of a call in evaluation.
    """
    network, device = workplace.network, workplace.device
    state = network.initial
    return Probe(
        forward_flops=count_flops(lambda: network.predict(state, batch)) // len(batch),
        training_flops=count_flops(lambda: first_step(workplace, batch)) // len(batch),
        seconds_step=_seconds(lambda: first_step(workplace, batch), device),
        seconds_image=_seconds(lambda: network.predict(state, many), device) / len(many),
    )


def first_step(workplace: Workplace, batch: Batch) -> float:
    """Take the first training step and return the loss before it."""
    workplace.network.load(workplace.network.initial)
    one_step = Plan(len(batch), steps=1)
    return rehearse(workplace, batch, workplace.optimizer(1), one_step)


def _seconds(do: Callable[[], Any], device: torch.device) -> float:
    """Return the shortest of a few calls of what was called before."""
    times: list[float] = []
    while not times or (sum(times) < PROBE_S and len(times) < MAX_CALLS):
        start = time.perf_counter()
        do()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
