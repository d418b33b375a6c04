"""What a training step of a network costs: operations counted, memory estimated.

Operations are those of matrix products and convolutions, forwards and backwards, as
`torch.utils.flop_counter` counts them (a multiplication and an addition are two). Memory is an
estimate of the peak: parameters, buffers, gradients and optimiser state, and the tensors that
autograd keeps for the way back, which grow linearly with the batch. Left out are what libraries
take as workspace, what an allocator holds in reserve and the driver's own part (about half a
gigabyte on a GPU).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FLOAT = 4
"""Bytes of a number."""


@dataclass(frozen=True)
class Footprint:
    """Cost of training one network in one precision.

    Args:
        flops: floating-point operations per example, forwards and backwards.
        parameter_bytes: of the parameters.
        held_bytes: of parameters, buffers, gradients, optimiser state and what else there is
            whatever the batch.
        example_bytes: kept per example between the way forwards and the way back.
        num_models: that a step trains, one after the other; two with a personal one beside.
        most_at_once: examples whose gradients are formed at a time; None for those of a step.
    """

    flops: float
    parameter_bytes: int
    held_bytes: int
    example_bytes: float
    num_models: int = 1
    most_at_once: int | None = None

    def at_once(self, batch_size: int) -> int:
        """Return of how many examples of a step gradients are formed at a time."""
        return min(batch_size, self.most_at_once or batch_size)

    def memory(self, batch_size: int) -> float:
        """Return the estimated peak memory of a step, in bytes."""
        return self.held_bytes + self.example_bytes * self.at_once(batch_size)

    def traffic(self, batch_size: int) -> float:
        """Return the estimated bytes that a step moves to and from memory."""
        return 2 * (self.held_bytes + self.example_bytes * batch_size + self.parameter_bytes)

    def largest_batch(self, memory_bytes: float) -> int:
        """Return how many examples at a time fit into this memory, 0 if none does."""
        return max(0, int((memory_bytes - self.held_bytes) // self.example_bytes))

    def clipping_each(self, num_trained: int, num_copies: int, most_at_once: int) -> Footprint:
        """Return the cost if every example's gradient is formed and clipped before they are added.

        The products that form the gradient of a batch form those of its examples, but for the sum:
        then the squares for each norm and the weighted sum are formed of them, two operations a
        number each. One gradient is held for each example, beside their sum and the noise. Layers
        whose norms are had without forming a gradient need less.

        Args:
            num_trained: numbers in a gradient.
            num_copies: of an example, each with a gradient of its own.
            most_at_once: examples whose gradients are formed at a time.
        """
        return replace(
            self,
            flops=num_copies * (self.flops + 4 * num_trained),
            held_bytes=self.held_bytes + 2 * FLOAT * num_trained,
            example_bytes=num_copies * (self.example_bytes + FLOAT * num_trained),
            most_at_once=most_at_once,
        )


def count_flops(do: Callable[[], Any]) -> int:
    """Return the floating-point operations of products and convolutions in a call."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        do()
    return int(counter.get_total_flops())


def measure(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sizes: tuple[int, int],
    step: Callable[[int], Any],
) -> Footprint:
    """Take two training steps and return what one costs.

    What autograd keeps is a straight line through the two: copies of the weights in lower
    precision, for example, do not grow with the batch.

    Args:
        model: that is trained.
        optimizer: of the model, fresh.
        sizes: a smaller and a larger number of examples.
        step: takes a step on so many examples with this model and this optimiser.
    """
    small, large = sizes
    few, _ = _kept(model, lambda: step(small))
    many, flops = _kept(model, lambda: step(large))
    example_bytes = (many - few) / (large - small)
    gradients = num_bytes(p for p in model.parameters() if p.requires_grad)
    state = num_bytes(
        value
        for values in optimizer.state.values()
        for value in values.values()
        if hasattr(value, "untyped_storage")
    )
    parameters = num_bytes(model.parameters())
    held = parameters + num_bytes(model.buffers()) + gradients + state
    return Footprint(
        flops / large, parameters, held + round(few - small * example_bytes), example_bytes
    )


def _kept(model: nn.Module, step: Callable[[], Any]) -> tuple[int, int]:
    """Return the bytes that autograd keeps for a step's way back, and the step's operations."""
    from torch.autograd.graph import saved_tensors_hooks

    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[tuple[int, int], Tensor] = {}  # tensors, so that no address is used again

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept.setdefault((tensor.data_ptr(), tensor.numel()), tensor.detach())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        flops = count_flops(step)
    return num_bytes(kept.values()), flops


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the values of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
