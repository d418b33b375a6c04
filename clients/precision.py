"""In which numbers a client multiplies: autocast, and loss scaling where float16 needs it.

Weights, gradients and optimiser stay in float32. In float16 the loss is scaled so that small
gradients do not vanish (Micikevicius et al., Mixed Precision Training, ICLR 2018), as
`torch.amp.GradScaler` does it: a step whose gradients overflow is left out and the scale halved.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Precision = Literal["fp32", "bf16", "fp16"]


class Arithmetic:
    """How one client forms and applies gradients in one round.

    Args:
        precision: of products.
        device_type: torch's, such as `cpu` or `cuda`.
    """

    def __init__(self, precision: Precision, device_type: str) -> None:
        import torch

        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._device_type = device_type
        self._scaler = torch.amp.GradScaler(device_type) if precision == "fp16" else None

    def forwards(self) -> AbstractContextManager[object]:
        """Return the context in which a loss is computed."""
        import torch

        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device_type, self._dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that are there."""
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimiser take a step along the gradients."""
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)
            self._scaler.update()
