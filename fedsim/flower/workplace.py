"""What the sites of a process work with: examples on the device, one network, and how it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clients.batch import Bags, Batch
from clients.objectives import Context
from clients.training import Plan, train
from fedsim.adversaries import choose
from fedsim.errors import InputError
from fedsim.flower.network import Network
from fedsim.seeds import Streams

if TYPE_CHECKING:
    from clients.per_example import Mode
    from fedsim.data.aggregates import Aggregates
    from fedsim.data.population import Examples, Population
    from fedsim.data.source import Split
    from fedsim.scenario import Scenario


class Workplace:
    """The sites of one process; each uses the same network in turn.

    Args:
        scenario: what to do.
        population: who holds what.
        device: where to compute.

    Attributes:
        streams: of random numbers.
        attackers: among the sites.
        network: in which all models are trained and evaluated.

    Raises:
        DataError, InputError: see `Network`.
    """

    def __init__(self, scenario: Scenario, population: Population, device: torch.device) -> None:
        self.scenario = scenario
        self.population = population.without_hidden()
        self.device = device
        self.streams = Streams(scenario.seed)
        self.attackers = choose(scenario.population.adversaries, population.names, self.streams)
        self.network = Network(scenario, device)
        self._batches: dict[tuple[int, Split], Batch] = {}

    def examples(self, holder: int, split: Split) -> Batch:
        """Return a holder's examples on the device; moved once and kept, if it `keeps` them."""
        if (holder, split) in self._batches:
            return self._batches[holder, split]
        batch = self._moved(self.population.examples(holder, split))
        if self.population.keeps(holder):
            self._batches[holder, split] = batch
        return batch

    def patients(self, site: int) -> Tensor:
        """Return whose each training example of a site is, by number, (example,), int64."""
        found = self.population.patient_numbers(site, "train")
        return torch.from_numpy(found).to(self.device)

    @cached_property
    def external(self) -> list[Batch]:
        """The examples of the external sets on the device."""
        return [self._moved(part.examples()) for part in self.population.external]

    @cached_property
    def population_counts(self) -> Tensor | None:
        """Training examples per class as all sites together tell, None where they draw them."""
        known = self.population.known_counts("train")
        return None if known is None else torch.from_numpy(known).to(self.device)

    def here(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors on the device."""
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def optimizer(self, round: int) -> torch.optim.Optimizer:
        """Return a fresh optimiser over the network, at the round's learning rate."""
        parameters = self.network.module.parameters()
        return self.scenario.client.optimizer.build(parameters, self.learning_rate(round))

    def learning_rate(self, round: int) -> float:
        """Return the learning rate of a round."""
        client = self.scenario.client
        factor = client.schedule.factor(round, self.scenario.rounds)
        return float(client.optimizer.learning_rate * factor)

    def check_private(self) -> None:
        """Find out before any training what private training would fail of.

        Raises:
            InputError: if it would.
        """
        privacy, buffers = self.scenario.privacy, sorted(self.network.buffers)
        if privacy is not None and privacy.mechanism.clips == "gradients":
            _ = self.gradient_mode
        elif privacy is not None and buffers:
            raise InputError(
                f"model: {buffers[0]} is no parameter: what the training images make of it would "
                "leave a site neither clipped nor noised. Use small_cnn or mlp, or "
                "{kind: monai, normalisation: group}"
            )

    @cached_property
    def gradient_mode(self) -> Mode:
        """How gradients of single examples are formed in this network.

        Raises:
            InputError: if it has none, as examples of a batch change each other's.
        """
        from clients.private_models import suited_mode

        shape = self.scenario.data.source.facts().image_shape
        try:
            with self.streams.torch_default("gradient_mode", str(self.device)):
                return suited_mode(self.network.module, shape)
        except ValueError as error:
            raise InputError(
                f"model: cannot be trained privately: {error}. Use small_cnn or mlp, or "
                "{kind: monai, normalisation: group}"
            ) from error

    def augment(self, round: int, **keys: int) -> Callable[[Batch], Batch] | None:
        """Return what changes the images of a round's batches, None if nothing does."""
        augmentation = self.scenario.data.augmentation
        if not augmentation.changes_anything:
            return None
        draws = self.streams.torch("augmentation", round=round, **keys)
        return partial(augmentation.apply, generator=draws)

    def context(self, examples: Batch, round: int) -> Context:
        """Return what an objective may know of a round beside its batches."""
        return Context(
            examples.class_counts(len(self.population.class_names)),
            self.population_counts,
            examples.confusion,
            progress=(round - 1) / self.scenario.rounds,
        )

    def fit(
        self,
        examples: Batch,
        round: int,
        optimizer: torch.optim.Optimizer,
        plan: Plan,
        penalty: Callable[[nn.Module, Batch], Tensor] | None = None,
        **keys: int,
    ) -> float:
        """Do one round's training on the network as it stands and return the mean objective.

        Args:
            examples: to train on.
            round: which one, 1-based.
            optimizer: over the network.
            plan: what is done.
            penalty: added to the objective, see `clients.training.train`.
            keys: of the random streams, beside the round.
        """
        with self.streams.torch_default("training", str(self.device), round=round, **keys):
            return train(
                self.network.module,
                examples,
                plan,
                self.scenario.client.objective,
                optimizer,
                context=self.context(examples, round),
                generator=self.streams.torch("batches", round=round, **keys),
                augment=self.augment(round, **keys),
                penalty=penalty,
            )

    def _moved(self, examples: Examples) -> Batch:
        bags = tuple(self._bags(known) for known in examples.bags)
        return Batch(
            torch.from_numpy(examples.images).to(self.device),
            torch.from_numpy(examples.labels).to(self.device),
            bags[0] if bags else None,
            bags[1:],
            None
            if examples.confusion is None
            else torch.from_numpy(examples.confusion).to(self.device, torch.float32),
        )

    def _bags(self, bags: Aggregates) -> Bags:
        return Bags(
            torch.from_numpy(bags.of_example).to(self.device),
            torch.from_numpy(bags.responses).to(self.device),
        )
