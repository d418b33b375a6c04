"""Where known inputs are put through the code of a mechanism.

At a site that is `clients.dpsgd.train_private`; only the network is another, one whose gradient for
an example is the example, so that whoever chooses the examples chooses the gradients. At the server
it is what makes the means of client updates.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.batch import Batch
from clients.dpsgd import DpSgd, train_private
from clients.objectives import Context, Objective
from fedsim.privacy.private_mean import PrivateMean
from fedsim.seeds import Streams

WEIGHT = "weight"
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


class Bench(ABC):
    """Where known inputs are put through the code of a mechanism."""

    streams: Streams
    samples: ClassVar[bool]
    """Whether it draws samples of units itself."""

    @abstractmethod
    def released(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        num_steps: int,
        units: NDArray[np.float64],
        **keys: int,
    ) -> NDArray[np.float64]:
        """Return the noisy sums of all steps over C, (step, direction).

        Args:
            noise_multiplier: sigma.
            sampling_rate: q.
            num_steps: releases.
            units: (unit, direction), what each contributes before it is clipped, over C.
            keys: of the random streams.
        """


@dataclass(frozen=True)
class TrainingBench(Bench):
    """Private training at a site.

    Args:
        streams: of the audit.
        dp_sgd: makes what a site does from the numbers of the ledger.
        train: trains privately.
    """

    streams: Streams
    dp_sgd: DpSgdOf
    train: Train = train_private
    samples: ClassVar[bool] = True

    def released(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        num_steps: int,
        units: NDArray[np.float64],
        **keys: int,
    ) -> NDArray[np.float64]:
        """Return the noisy sums of all steps over C, (step, direction)."""
        mechanism = self.dp_sgd(noise_multiplier, sampling_rate, num_steps)
        num = len(units)
        images = torch.from_numpy(units * mechanism.clip_norm).float()
        network = Echo(units.shape[1])
        noting = Noting(network)
        self.train(
            network,
            Batch(images, torch.zeros(num, dtype=torch.int64)),
            mechanism,
            Slope(),
            noting,
            context=Context(torch.zeros(1)),
            sampling=self.streams.torch("audit_sampling", **keys),
            noise=self.streams.torch("audit_noise", **keys),
            augment=(lambda batch: batch) if mechanism.num_augmentations > 1 else None,
        )
        scale = mechanism.sampling_rate * num / mechanism.clip_norm
        found: NDArray[np.float64] = torch.stack(noting.noted).double().numpy() * scale
        return found


@dataclass(frozen=True)
class ServerBench(Bench):
    """The server's noisy means of client updates; who is in a cohort was drawn before.

    Args:
        streams: of the audit.
        mean: function of sigma, D and streams -> what makes the means.
        clip_norm: C, that of the first round if it adapts.
    """

    streams: Streams
    mean: Callable[[float, float, Streams], PrivateMean]
    clip_norm: float
    samples: ClassVar[bool] = False

    def released(
        self,
        noise_multiplier: float,
        sampling_rate: float,
        num_steps: int,
        units: NDArray[np.float64],
        **keys: int,
    ) -> NDArray[np.float64]:
        """Return the noisy sums of all steps over C, (step, direction)."""
        streams = Streams(self.streams.key("audit_server", **keys))
        updates = torch.from_numpy(units * self.clip_norm)
        sums = []
        mean = self.mean(noise_multiplier, float(len(units)), streams)
        begins = mean.state()
        for step in range(num_steps):
            mean.restore(begins)
            mean.begin({WEIGHT: torch.zeros(units.shape[1], dtype=torch.float64)})
            for update in updates:
                mean.take({WEIGHT: update})
            sums.append(mean.release(step + 1)[WEIGHT].clone() * (len(units) / self.clip_norm))
        found: NDArray[np.float64] = torch.stack(sums).numpy()
        return found
