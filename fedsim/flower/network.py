"""The network of a process, into which one model after the other is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clients import evaluation
from clients.batch import Batch
from clients.regularisers.features import last_linear
from fedsim.errors import DataError, InputError
from fedsim.models import freezing, weights
from fedsim.seeds import Streams

if TYPE_CHECKING:
    from fedsim.models.weights import Fitted
    from fedsim.scenario import Scenario
    from fedsim.scenario.scenario import Client


class Network:
    """A network on a device.

    Args:
        scenario: says which network, and what it starts from.
        device: where it computes.

    Attributes:
        module: torch's; its values are those of the model that was loaded last.
        fitted: what came from a file of weights, if any.
        initial: the model that a run starts from, parameters and buffers by name, on the CPU.
        buffers: names of what no optimiser changes.
        private: names of what never leaves a site.
        shared: names of the parameters that do.
        trained: names of the parameters that an optimiser changes.

    Raises:
        DataError: if the scenario's weights cannot be read or do not fit at all.
        InputError: if it has not what the client section asks for.
    """

    def __init__(self, scenario: Scenario, device: torch.device) -> None:
        module, self.fitted = _built(scenario)
        with _asked_for_by("model.frozen"):
            freezing.freeze(module, scenario.model.frozen)
        self.module = module.to(device)
        self._predicted = scenario.data.predicted
        self.initial = {name: t.detach().clone().cpu() for name, t in module.state_dict().items()}
        self._parameters = dict(module.named_parameters(remove_duplicate=False))
        self.buffers = frozenset(self.initial) - set(self._parameters)
        self.private = _private(scenario.client, module)
        self.shared = frozenset(self._parameters) - self.private
        self.trained = frozenset(n for n, p in self._parameters.items() if p.requires_grad)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what `state_dict` would, without its cost at every site in every round."""
        if not self.buffers:
            return self._parameters
        buffers = {n: t for n, t in self.module.named_buffers() if n in self.buffers}
        return {**self._parameters, **buffers}

    def load(self, model: Mapping[str, Tensor]) -> None:
        """Put a copy of a model into the network; what it held before is left as it is."""
        for name, tensor in self.tensors().items():
            tensor.data = model[name].to(tensor, copy=True)

    def snapshot(self) -> dict[str, Tensor]:
        """Return a copy of the model that is in the network, on the CPU."""
        return {name: tensor.detach().clone().cpu() for name, tensor in self.tensors().items()}

    def predict(self, model: Mapping[str, Tensor], *groups: Batch) -> list[Tensor]:
        """Return a model's scores for each group of examples, see `clients.evaluation.predict`."""
        self.load(model)
        return [evaluation.predict(self.module, examples, self._predicted) for examples in groups]


def _built(scenario: Scenario) -> tuple[nn.Module, Fitted | None]:
    """Return a scenario's network, and what came from a file of weights, if any."""
    facts, model = scenario.data.source.facts(), scenario.model
    with Streams(scenario.seed).torch_default("initial_model"):
        module = model.build(facts.num_channels, scenario.data.num_outputs, facts.image_size)
    if model.weights is None:
        return module, None
    tensors = weights.load(model.weights)
    try:
        return module, weights.fit(module, tensors)
    except DataError as error:
        raise DataError(f"{model.weights}: {error}") from error


def _private(client: Client, module: nn.Module) -> frozenset[str]:
    """Return the names of what never leaves a site, once the network has all that is asked for."""
    if client.regulariser is not None and client.regulariser.needs_features:
        with _asked_for_by("client.regulariser"):
            last_linear(module)
    if client.personalisation is None:
        return frozenset()
    with _asked_for_by("client.personalisation"):
        return client.personalisation.private(module)


@contextmanager
def _asked_for_by(section: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InputError(f"{section}: {error}") from error
