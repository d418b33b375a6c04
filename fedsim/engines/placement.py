"""Which devices compute, and which worker on which of them, by the memory that is free there."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fedsim.errors import InputError
from fedsim.fleet.fleet import plan_for
from fedsim.flower.muster import footprint

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.flower.workplace import Workplace
    from fedsim.scenario import Scenario

CUDA_CONTEXT_BYTES = 600_000_000
"""What a process takes on a GPU before it holds a tensor: about what CUDA 12 and cuDNN need."""


def choose_devices(names: str) -> tuple[torch.device, ...]:
    """Return the devices that compute, the server's first.

    Args:
        names: `cpu`, `cuda`, `mps`, several with commas between them, or `auto`: all CUDA GPUs, or
            the CPU without one.

    Raises:
        InputError: if there is no such device.
    """
    if names == "auto":
        num = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = ",".join(f"cuda:{n}" for n in range(num)) or "cpu"
    devices = tuple(_device(name.strip()) for name in names.split(","))
    if len(set(devices)) < len(devices) or len({device.type for device in devices}) > 1:
        raise InputError(
            f"device {names!r}: name different devices of one type, such as cuda:0,cuda:1; bits "
            "repeat on one type alone"
        )
    return devices


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("expected cpu, cuda or mps")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used here: {reason}") from error
    return device


@dataclass(frozen=True)
class Room:
    """A device with room for workers.

    Args:
        device: torch's name.
        free_bytes: that workers may use; None where memory is not the device's own.
    """

    device: str
    free_bytes: int | None


def adding_device(device: torch.device) -> torch.device:
    """Return where updates are added if `device` computes: there, if it knows double precision."""
    return torch.device("cpu") if device.type == "mps" else device


def needed_bytes(workplace: Workplace) -> int:
    """Return about what a worker takes on a GPU.

    That is a context, the largest training step there is (parameters, gradients, optimiser state
    and what autograd keeps, measured in float32), the global model, a local one on its way, and all
    images. Evaluation keeps nothing for a way back and is taken to need less.
    """
    scenario, population = workplace.scenario, workplace.population
    model = sum(tensor.nbytes for tensor in workplace.network.initial.values())
    images = 4 * population.num_images() * math.prod(scenario.data.source.facts().image_shape)
    step = footprint(workplace, "fp32").memory(_largest_batch(scenario, population))
    return int(CUDA_CONTEXT_BYTES + step + 2 * model + images)


def _largest_batch(scenario: Scenario, population: Population) -> int:
    """Return the most examples that a step may see at once."""
    usual = scenario.client.plan
    plans = [usual, *(plan_for(group, usual) for group in scenario.population.devices)]
    return min(max(plan.batch_size for plan in plans), max(population.sizes()))


def rooms(devices: Sequence[torch.device]) -> list[Room]:
    """Return the devices with the memory that is free on them now."""
    return [
        Room(str(d), torch.cuda.mem_get_info(d)[0] if d.type == "cuda" else None) for d in devices
    ]


def most(rooms: Sequence[Room], needed_bytes: int) -> int:
    """Return how many workers there can be: one for each processor, as far as memory goes."""
    fitting = [
        max(0, room.free_bytes // needed_bytes) for room in rooms if room.free_bytes is not None
    ]
    affinity = hasattr(os, "sched_getaffinity")
    processors = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(processors, sum(fitting))) if fitting else processors


def place(num_workers: int, rooms: Sequence[Room], needed_bytes: int) -> list[str]:
    """Return the device of each worker: every next one goes where most is free.

    Devices without memory of their own take workers in turn.

    Args:
        num_workers: how many.
        rooms: at least one.
        needed_bytes: of one worker.

    Raises:
        InputError: if they do not fit; says how many would.
    """
    placed: list[str] = []
    taken = dict.fromkeys(range(len(rooms)), 0)
    while len(placed) < num_workers:
        fitting = [n for n in taken if _left(rooms[n], taken[n], needed_bytes) >= 0]
        if not fitting:
            where = ", ".join(f"{r.device} has {(r.free_bytes or 0) / 1e9:.1f} GB" for r in rooms)
            raise InputError(
                f"{num_workers} workers do not fit: each needs about {needed_bytes / 1e9:.1f} GB, "
                f"{where} free; "
                + (f"use --workers {len(placed)}" if placed else "use another device")
            )
        chosen = max(fitting, key=lambda n: (_left(rooms[n], taken[n], needed_bytes), -n))
        taken[chosen] += 1
        placed.append(rooms[chosen].device)
    return placed


def _left(room: Room, taken: int, needed_bytes: int) -> float:
    """Return what would be left with one more worker."""
    if room.free_bytes is None:
        return 1 / (taken + 1)
    return room.free_bytes - (taken + 1) * needed_bytes
