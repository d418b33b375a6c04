"""Private training at a site, put to the test.

It is `clients.dpsgd.train_private` that is called; only the network is another, one whose gradient
for an example is the example, so that whoever chooses the examples chooses the gradients. Where a
unit has several images, as a patient has, each is a part of what it contributes: longer than the
bound by itself, so that clipping images instead of units shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.batch import Batch
from clients.dpsgd import DpSgd, train_private
from clients.objectives import Context, Objective
from fedsim.audit import sampling
from fedsim.audit.bench import Bench
from fedsim.audit.claims import Claim
from fedsim.audit.finding import Finding
from fedsim.seeds import Streams

Train = Callable[..., Any]
DpSgdOf = Callable[[float, float, int], DpSgd]
"""Makes what a site does from sigma, q and the number of steps."""


class Slope(Objective):
    """The mean of what the network says."""

    kind: Literal["slope"] = "slope"

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the mean output."""
        mean: Tensor = model(batch.images).mean()
        return mean


class Echo(nn.Module):
    """A network whose gradient for an example is the example, in two tensors half each."""

    def __init__(self, num_directions: int) -> None:
        super().__init__()
        self.halves = nn.ModuleList(nn.Linear(num_directions, 1, bias=False) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        """Return a number per example."""
        first, second = (half(images / math.sqrt(2)) for half in self.halves)
        total: Tensor = first + second
        return total


class Noting(torch.optim.Optimizer):
    """Takes no step, and notes what was released in each."""

    def __init__(self, network: Echo) -> None:
        super().__init__(network.parameters(), {})
        self._network = network
        self.noted: list[Tensor] = []

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Note the gradient by direction."""
        halves = [
            half.grad.flatten() for half in self._network.parameters() if half.grad is not None
        ]
        self.noted.append((halves[0] + halves[1]) / math.sqrt(2))


@dataclass(frozen=True)
class TrainingBench(Bench):
    """Private training at a site.

    Args:
        streams: of the audit.
        dp_sgd: makes what a site does from the numbers of the ledger.
        train: trains privately.
        num_images: of each unit.
    """

    streams: Streams
    dp_sgd: DpSgdOf
    train: Train = train_private
    num_images: int = 1

    def released(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        num_steps: int,
        units: NDArray[np.float64],
        **keys: int,
    ) -> NDArray[np.float64]:
        """Return the noisy sums of all steps, (step, direction); the sensitivity is C."""
        mechanism = self.dp_sgd(noise_multiplier, sampling_rate, num_steps)
        num = len(units)
        parts = np.repeat(units / self.num_images, self.num_images, axis=0)
        images = torch.from_numpy(parts * mechanism.clip_norm).float()
        network = Echo(units.shape[1])
        noting = Noting(network)
        self.train(
            network,
            Batch(images, torch.zeros(len(images), dtype=torch.int64)),
            mechanism,
            Slope(),
            noting,
            context=Context(torch.zeros(1)),
            sampling=self.streams.torch("audit_sampling", **keys),
            noise=self.streams.torch("audit_noise", **keys),
            unit_of_example=torch.arange(num).repeat_interleave(self.num_images),
            augment=(lambda batch: batch) if mechanism.num_augmentations > 1 else None,
        )
        scale = mechanism.sampling_rate * num / mechanism.clip_norm
        found: NDArray[np.float64] = torch.stack(noting.noted).double().numpy() * scale
        return found

    def others(self, claim: Claim, number: int, error: float) -> list[Finding]:
        """Return how units are drawn."""
        return sampling.test(self, claim, number, error)
