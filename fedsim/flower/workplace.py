"""What a simulated site works with: its examples as tensors, one network to load models into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clients.batch import Batch
from clients.evaluation import log_probabilities
from clients.training import train
from fedsim.seeds import Streams

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.data.source import Split
    from fedsim.scenario import Scenario


class Workplace:
    """The sites of one process; each uses the same network in turn.

    Args:
        scenario: what to do.
        population: who holds what.
        device: where to compute.
    """

    def __init__(self, scenario: Scenario, population: Population, device: torch.device) -> None:
        self.scenario = scenario
        self.population = population
        self.device = device
        self.streams = Streams(scenario.seed)
        facts = scenario.data.source.facts()
        with self.streams.torch_default("initial_model"):
            network = scenario.model.build(
                facts.num_channels, len(population.class_names), facts.image_size
            )
        self.model: nn.Module = network.to(device)
        self.initial = {name: t.detach().clone().cpu() for name, t in network.state_dict().items()}
        self._parameters = dict(network.named_parameters(remove_duplicate=False))
        self.buffers = frozenset(self.initial) - set(self._parameters)
        self._batches: dict[tuple[int, Split], Batch] = {}

    def examples(self, site: int, split: Split) -> Batch:
        """Return a site's examples on the device; moved once, then kept."""
        if (site, split) not in self._batches:
            examples = self.population.examples(site, split)
            self._batches[site, split] = Batch(
                torch.from_numpy(examples.images).to(self.device),
                torch.from_numpy(examples.labels).to(self.device),
            )
        return self._batches[site, split]

    def train(
        self, site: int, round: int, state: Mapping[str, Tensor], proximal_mu: float = 0.0
    ) -> tuple[Mapping[str, Tensor], float, int]:
        """Train one site for one round.

        Args:
            site: which one.
            round: which one, 1-based.
            state: the global model.
            proximal_mu: weight of the proximal term, if the server asks for one.

        Returns:
            The local model (valid until the network is used again), the mean objective and the
            number of training examples.
        """
        client, examples = self.scenario.client, self.examples(site, "train")
        self._load(state)
        rate = client.schedule.factor(round, self.scenario.rounds)
        optimizer = client.optimizer.build(
            self.model.parameters(), client.optimizer.learning_rate * rate
        )
        draws = self.streams.torch("augmentation", round=round, site=site)
        augmentation = self.scenario.data.augmentation
        with self.streams.torch_default("training", str(self.device), round=round, site=site):
            loss = train(
                self.model,
                examples,
                client.plan,
                client.objective,
                optimizer,
                num_classes=len(self.population.class_names),
                generator=self.streams.torch("batches", round=round, site=site),
                augment=(lambda batch: augmentation.apply(batch, draws))
                if augmentation.changes_anything
                else None,
                proximal_mu=proximal_mu,
            )
        return self._tensors(), loss, len(examples)

    def _tensors(self) -> Mapping[str, Tensor]:
        """Return what `state_dict` would, without its cost at every site in every round."""
        if not self.buffers:
            return self._parameters
        buffers = {n: t for n, t in self.model.named_buffers() if n in self.buffers}
        return {**self._parameters, **buffers}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(state[name])

    def predict(self, state: Mapping[str, Tensor], *groups: Batch) -> list[Tensor]:
        """Return the model's log-probabilities, (example, class), for each group of examples."""
        self._load(state)
        return [log_probabilities(self.model, examples) for examples in groups]
