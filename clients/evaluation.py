"""What a model says about images it is shown, without changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch
    from clients.targets import Target

BATCH_SIZE = 256
"""Examples per forward pass: fixed, so that results do not depend on who evaluates."""


def predict(model: nn.Module, examples: Batch, target: Target) -> Tensor:
    """Return the scores that a model gives in evaluation mode.

    Args:
        model: whose outputs say something of the target.
        examples: whose images it is shown.
        target: how outputs are read.

    Returns:
        log P(class | image), (example, class), or numbers, (example, 1); float32, on the model's
        device.
    """
    import torch

    model.eval()
    with torch.inference_mode():
        outputs = [model(images) for images in torch.split(examples.images, BATCH_SIZE)]
        return target.scores(torch.cat(outputs))
