"""What the last linear layer of a network is shown: the features of its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Features:
    """The features that a network makes, noted as they pass.

    Args:
        model: has a linear layer.

    Attributes:
        last: of the images that the network was shown last, (example, feature).

    Raises:
        ValueError: if there is no linear layer.
    """

    last: Tensor

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._hook = last_linear(model).register_forward_pre_hook(self._note)

    def _note(self, layer: nn.Module, shown: tuple[Any, ...]) -> None:
        self.last = shown[0]

    def under(self, state: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Return the features of images under other weights, in evaluation mode.

        Args:
            state: parameters and buffers by name; not changed.
            images: (example, channel, height, width).
        """
        training = self._model.training
        self._model.eval()
        with torch.no_grad():
            torch.func.functional_call(self._model, dict(state), (images,))
        self._model.train(training)
        return self.last

    def close(self) -> None:
        """Leave the network as it was."""
        self._hook.remove()


@contextmanager
def watched(model: nn.Module) -> Iterator[Features]:
    """Note the features of a network in the block."""
    features = Features(model)
    try:
        yield features
    finally:
        features.close()


def last_linear(model: nn.Module) -> nn.Linear:
    """Return the linear layer that was made last.

    Raises:
        ValueError: if there is none.
    """
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ValueError("this network has no linear layer, and so no features")
    return found[-1]
