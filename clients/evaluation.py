"""What a model says about images it is shown, without changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch

BATCH_SIZE = 256
"""Examples per forward pass: fixed, so that results do not depend on who evaluates."""


def log_probabilities(model: nn.Module, examples: Batch) -> Tensor:
    """Return log P(class | image) in evaluation mode.

    Returns:
        (example, class), float32, on the model's device.
    """
    import torch

    model.eval()
    with torch.inference_mode():
        logits = [model(images) for images in torch.split(examples.images, BATCH_SIZE)]
        return torch.cat(logits).log_softmax(dim=1)
