"""The examples a client works on, and the order in which it sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some labelled images.

    Args:
        images: (example, channel, height, width), float32, normalised.
        labels: (example,), int64 class indices.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> Batch:
        return Batch(self.images[part], self.labels[part])

    def select(self, index: Tensor) -> Batch:
        """Return the examples at these positions, (n,), int64; cheaper than `images[index]`."""
        return Batch(self.images.index_select(0, index), self.labels.index_select(0, index))


def shuffled(
    examples: Batch, batch_size: int, *, drop_last: bool, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield one epoch of batches without replacement, in an order drawn from `generator`."""
    import torch

    order = torch.randperm(len(examples), generator=generator).to(examples.labels.device)
    for index in torch.split(order, batch_size):
        if drop_last and len(index) < batch_size:
            return
        yield examples.select(index)
