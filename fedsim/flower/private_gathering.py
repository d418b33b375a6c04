"""The replies of a round whose mean the server releases with noise: added up, none is kept."""

from __future__ import annotations

import logging
from collections.abc import Collection

import torch
from flwr.app import RecordDict
from torch import Tensor

from fedsim.errors import RunError
from fedsim.flower.updates import Arrays
from fedsim.flower.wire import to_tensor
from fedsim.privacy.private_mean import PrivateMean
from strategies import Strategy
from strategies.base import State

log = logging.getLogger("fedsim")


class PrivateGathering:
    """The replies of a round, taken one by one; of each, the model's parameters count alone.

    Args:
        strategy: what aggregates; looks at the updates through their mean alone.
        start: the global model that the clients started from.
        buffers: names of what is not trained, and stays as it is.
        mean: which the strategy gets.
        round: which one, 1-based.
        device: where updates are added.

    Raises:
        RunError: if the strategy needs more than a mean.
    """

    def __init__(
        self,
        strategy: Strategy,
        start: Arrays,
        buffers: Collection[str],
        mean: PrivateMean,
        round: int,
        device: torch.device,
    ) -> None:
        if strategy.mean is None or strategy.reports or strategy.collects:
            raise RunError(f"strategy {strategy.kind!r} needs more than a noisy mean of updates")
        self._strategy, self._mean = strategy, mean
        self._round, self._device = round, device
        self.parameters = [name for name in start if name not in buffers]
        self._start = {name: self._wide(start, name) for name in self.parameters}
        mean.begin({name: torch.zeros_like(value) for name, value in self._start.items()})
        self.metrics: list[RecordDict] = []

    def take(self, content: RecordDict) -> None:
        """Take what a site sent."""
        records = list(content.array_records.values())
        if len(records) != 1:
            raise RunError(
                "of a private mean a site sends its model alone; one sent the records "
                f"{', '.join(content.array_records)}"
            )
        self.metrics.append(RecordDict(dict(content.metric_records)))
        update = {name: self._wide(records[0], name) - start for name, start in self._start.items()}
        if not self._mean.take(update):
            log.warning("round %d: an update is not finite and counts as zero", self._round)

    @property
    def suffices(self) -> bool:
        """Whether there is something to release."""
        return self._mean.suffices

    def aggregate(self, state: State) -> tuple[dict[str, Tensor], State]:
        """Return the strategy's aggregate update of the parameters, and its next state."""
        weights = torch.tensor([self._mean.num_expected], dtype=torch.float64)
        return self._strategy.from_mean(self._mean.release(self._round), weights, state)

    def mean_of_buffers(self) -> dict[str, Tensor]:
        """Return nothing: buffers stay as they are."""
        return {}

    def _wide(self, arrays: Arrays, name: str) -> Tensor:
        return to_tensor(arrays[name]).to(self._device, torch.float64)
