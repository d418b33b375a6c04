"""What is added to a local objective to hold sites together while they train apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch
    from clients.regularisers.features import Features

Tensors = Mapping[str, "Tensor"]
"""Tensors by the name of a parameter."""


@dataclass(frozen=True)
class Local:
    """What a regulariser knows of one round at one site; nothing of it is to be changed.

    Args:
        start: w_t, the model that the round starts from, parameters and buffers by name.
        shared: names of the parameters that the site shares with the others.
        received: array records that came with the model, by their name.
        memory: what `finish` kept of the last round of this site that counted; empty at first.
        num_steps: K, the optimiser steps of the round.
        learning_rate: of the round.
        features: what the network's last linear layer is shown, where `needs_features`.
    """

    start: Tensors
    shared: frozenset[str]
    received: Mapping[str, Tensors]
    memory: Tensors
    num_steps: int
    learning_rate: float
    features: Features | None = None

    def parameters(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Yield names and values of the shared parameters of a network."""
        return ((name, w) for name, w in model.named_parameters() if name in self.shared)


@dataclass(frozen=True)
class Finished:
    """What is left of a round.

    Args:
        memory: what the site keeps for its next round; it never leaves the site.
        sent: array records that go to the server beside the model, by their name.
    """

    memory: Tensors = field(default_factory=dict)
    sent: Mapping[str, Tensors] = field(default_factory=dict)


class Regulariser(BaseModel, ABC):
    """A term that is added to any local objective; a mean over examples if it looks at them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    reference: ClassVar[str] = ""
    """BibTeX of the paper the term comes from."""
    receives: ClassVar[tuple[str, ...]] = ()
    """Names of the array records that it needs from the server beside the model."""
    sends: ClassVar[tuple[str, ...]] = ()
    """Names of the array records that it sends to the server beside the model."""
    remembers: ClassVar[bool] = False
    """Whether a site keeps something from one of its rounds to the next."""
    needs_features: ClassVar[bool] = False
    """Whether it looks at what the network's last linear layer is shown."""
    couples_examples: ClassVar[bool] = False
    """Whether the term is anything but a mean of terms of single examples, or none of them."""

    @abstractmethod
    def penalty(self, model: nn.Module, batch: Batch, local: Local) -> Tensor:
        """Return the term, a scalar that can be differentiated.

        Args:
            model: the network; the objective has just shown it the batch.
            batch: the examples of this step, or a part of them.
            local: what else is known.
        """

    def finish(self, model: nn.Module, local: Local) -> Finished:
        """Return what is kept and what is sent, once the site has trained.

        Args:
            model: the network with the local parameters w_i.
            local: as in `penalty`.
        """
        return Finished()


def squared_distance(model: nn.Module, local: Local) -> Tensor:
    """Return ||w - w_t||^2 over the shared parameters, a scalar."""
    import torch

    distances = [(w - local.start[name]).square().sum() for name, w in local.parameters(model)]
    return torch.stack(distances).sum()


def inner_product(directions: Tensors, model: nn.Module, local: Local) -> Tensor:
    """Return <d, w> over the shared parameters, a scalar whose gradient is d.

    Args:
        directions: d, by the name of a parameter.
        model: the network.
        local: says which parameters are shared.
    """
    import torch

    products = [(directions[name] * w).sum() for name, w in local.parameters(model)]
    return torch.stack(products).sum()
