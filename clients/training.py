"""The one training loop: a client takes the global model, steps on its batches, hands it back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, cycle, islice
from typing import TYPE_CHECKING

from clients.batch import bags_at_once, shuffled
from clients.precision import Arithmetic

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from clients.batch import Batch
    from clients.objectives.base import Context, Objective
    from clients.precision import Precision


@dataclass(frozen=True)
class Plan:
    """What a client does in one round; exactly one of epochs and steps is given.

    Args:
        epochs: passes over the site's training examples.
        steps: optimiser steps, over as many passes as they need.
        batch_size: examples per step.
        drop_last: leave out the smaller last batch of every pass.
        max_steps: stop after so many steps, whatever else is asked for.
        part_size: examples whose gradients are formed at a time and added up to those of a batch;
            a whole batch if not given. For objectives that are means over examples.
        precision: of products.
    """

    batch_size: int
    epochs: int | None = None
    steps: int | None = None
    drop_last: bool = False
    max_steps: int | None = None
    part_size: int | None = None
    precision: Precision = "fp32"

    def num_steps(self, num_examples: int, num_bags: int | None = None) -> int:
        """Return the optimiser steps of a round at a site with so many training examples.

        Args:
            num_examples: of the site.
            num_bags: that they lie in, if they do.
        """
        return len(self.batch_sizes(num_examples, num_bags))

    def smallest_batch(self, num_examples: int, num_bags: int | None = None) -> int:
        """Return the size of the smallest batch that such a site trains on in a round."""
        return min(self.batch_sizes(num_examples, num_bags), default=self.batch_size)

    def batch_sizes(self, num_examples: int, num_bags: int | None = None) -> list[int]:
        """Return the examples in each step of a round, in order; of bags, if all were alike."""
        num, size, each = num_examples, self.batch_size, 1
        if num_bags:
            num, size = num_bags, bags_at_once(self.batch_size, num_examples, num_bags)
            each = round(num_examples / num_bags)
        full, rest = divmod(num, size)
        once = [size * each] * full + ([rest * each] if rest and not self.drop_last else [])
        stream = once * self.epochs if self.epochs is not None else cycle(once)
        return list(islice(stream, self._num_steps()))

    def _num_steps(self) -> int | None:
        """Return after how many steps to stop, None if not before the passes are done."""
        limits = [limit for limit in (self.steps, self.max_steps) if limit is not None]
        return min(limits, default=None)

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """Yield the parts of a batch whose gradients are formed at a time."""
        size = self.part_size or len(batch)
        for start in range(0, len(batch), size):
            yield batch[start : start + size] if size < len(batch) else batch

    def batches(self, examples: Batch, generator: torch.Generator) -> Iterator[Batch]:
        """Return the round's batches; every pass draws a new order from `generator`.

        Raises:
            ValueError: if a pass has no batch at all.
        """
        if len(examples) < (self.batch_size if self.drop_last else 1):
            raise ValueError(
                f"{len(examples)} examples give no batch of {self.batch_size}: "
                "use more examples, a smaller batch_size, or drop_last=False"
            )
        passes = range(self.epochs) if self.epochs is not None else count()
        stream = (
            batch
            for _ in passes
            for batch in shuffled(
                examples, self.batch_size, drop_last=self.drop_last, generator=generator
            )
        )
        return islice(stream, self._num_steps())


def train(
    model: nn.Module,
    examples: Batch,
    plan: Plan,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    *,
    context: Context,
    generator: torch.Generator,
    augment: Callable[[Batch], Batch] | None = None,
    penalty: Callable[[nn.Module, Batch], Tensor] | None = None,
) -> float:
    """Train `model` in place and return the mean objective over all examples seen.

    Args:
        model: the global model of the round; becomes the local one.
        examples: the site's training examples on the model's device.
        plan: how many batches of which size, and how their gradients are formed.
        objective: what is minimised.
        optimizer: torch's optimiser over the model's parameters.
        context: what the objective may know beside the batch.
        generator: source of the order of batches.
        augment: applied to every batch, if given.
        penalty: of the network and a batch that it was just shown; added to the objective.

    Returns:
        The mean of the objective without the penalty, weighted by batch size, at the parameters
        before each step.
    """
    import torch

    arithmetic = Arithmetic(plan.precision, examples.labels.device.type)
    model.train()
    losses, sizes = [], []
    for batch in plan.batches(examples, generator):
        optimizer.zero_grad(set_to_none=True)
        for part in plan.parts(augment(batch) if augment else batch):
            with arithmetic.forwards():
                loss = objective.loss(model, part, context)
                total = loss if penalty is None else loss + penalty(model, part)
            arithmetic.backward(
                total if len(part) == len(batch) else total * (len(part) / len(batch))
            )
            losses.append(loss.detach())
            sizes.append(len(part))
        arithmetic.step(optimizer)
    values: list[float] = torch.stack(losses).tolist()
    return math.fsum(v * size for v, size in zip(values, sizes, strict=True)) / sum(sizes)
