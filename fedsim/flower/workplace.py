"""What a simulated site works with: its examples as tensors, one network to load models into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from clients.batch import Batch
from clients.evaluation import log_probabilities
from clients.regularisers import Finished, Local, Proximal, Regulariser
from clients.regularisers.features import last_linear, watched
from clients.training import Plan, train
from fedsim.adversaries import LabelFlip, choose
from fedsim.data.source import HELD_OUT
from fedsim.errors import InputError
from fedsim.models import weights
from fedsim.scenario.flower_strategy import FlowerStrategy
from fedsim.seeds import Streams
from strategies.q_fed_avg import START_LOSS

if TYPE_CHECKING:
    from fedsim.data.population import Examples, Population
    from fedsim.data.source import Split
    from fedsim.flower.client_memory import Memory
    from fedsim.models.weights import Fitted
    from fedsim.records.read import Predicted
    from fedsim.scenario import Scenario


NOTHING: Mapping[str, Mapping[str, Tensor]] = MappingProxyType({})
REGULARISER, PRIVATE, PERSONAL = "regulariser", "private", "personal"
"""What is kept at a site, in `Trained.memory`."""


def initial_network(scenario: Scenario) -> tuple[nn.Module, Fitted | None]:
    """Return the network that a run starts from, and what came from a file of weights, if any.

    Raises:
        DataError: if the scenario's weights cannot be read or do not fit at all.
    """
    facts, model = scenario.data.source.facts(), scenario.model
    with Streams(scenario.seed).torch_default("initial_model"):
        network = model.build(facts.num_channels, len(scenario.data.classes), facts.image_size)
    if model.weights is None:
        return network, None
    return network, weights.fit(network, weights.load(model.weights))


@dataclass(frozen=True)
class Trained:
    """What came of one site's training.

    Args:
        state: the local model, or what of it is shared; not touched any more once the next one is
            loaded.
        loss: mean objective.
        num_examples: of the site, for training.
        num_steps: taken by the optimiser.
        sent: array records that go to the server beside the model, by their name.
        memory: what the site keeps for its next round, by what keeps it.
        start_loss: mean cross-entropy of the model that came, if the strategy asks for it.
    """

    state: Mapping[str, Tensor]
    loss: float
    num_examples: int
    num_steps: int
    sent: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)
    start_loss: float | None = None


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
        self.attackers = choose(scenario.population.adversaries, population.names, self.streams)
        network, self.fitted = initial_network(scenario)
        self.model: nn.Module = network.to(device)
        self.initial = {name: t.detach().clone().cpu() for name, t in network.state_dict().items()}
        self._parameters = dict(network.named_parameters(remove_duplicate=False))
        self.buffers = frozenset(self.initial) - set(self._parameters)
        self.private = self._private()
        self._batches: dict[tuple[int, Split], Batch] = {}
        self._external_batches: dict[int, Batch] = {}

    def examples(self, holder: int, split: Split) -> Batch:
        """Return a holder's examples on the device; moved once and kept, if it `keeps` them."""
        if (holder, split) in self._batches:
            return self._batches[holder, split]
        batch = self._moved(self.population.examples(holder, split))
        if self.population.keeps(holder):
            self._batches[holder, split] = batch
        return batch

    def train(
        self,
        site: int,
        round: int,
        state: Mapping[str, Tensor],
        proximal_mu: float = 0.0,
        plan: Plan | None = None,
        received: Mapping[str, Mapping[str, Tensor]] = NOTHING,
        memory: Memory = NOTHING,
    ) -> Trained:
        """Train one site for one round.

        Args:
            site: which one.
            round: which one, 1-based.
            state: the global model.
            proximal_mu: weight of the proximal term, if the server asks for one.
            plan: what the site does; by default as the scenario says.
            received: array records that came with the model, by their name.
            memory: what came of `Trained.memory` in the site's last round.
        """
        client = self.scenario.client
        plan = plan or client.plan
        regulariser = Proximal(weight=proximal_mu) if proximal_mu else client.regulariser
        start = self._here(self._whole(state, memory))
        self.load(start)
        examples = self._as_taught(site, round)
        before = self._cross_entropy(examples) if self._asked_for(START_LOSS) else None
        beside = {name: self._here(tensors) for name, tensors in received.items()}
        own, num_steps = self._here(memory.get(REGULARISER, {})), plan.num_steps(len(examples))
        local = self._local(start, beside, own, round, num_steps)
        optimizer = self.optimizer(round)
        loss, left = self._held(examples, round, optimizer, plan, regulariser, local, site=site)
        trained = {name: tensor.detach() for name, tensor in self._tensors().items()}
        kept = {
            REGULARISER: left.memory,
            PRIVATE: {name: trained[name] for name in sorted(self.private)},
            PERSONAL: self._beside(examples, round, plan, local, memory, site=site),
        }
        return Trained(
            {name: tensor for name, tensor in trained.items() if name not in self.private},
            loss,
            len(examples),
            num_steps,
            left.sent,
            {whose: tensors for whose, tensors in kept.items() if tensors},
            before,
        )

    def _asked_for(self, report: str) -> bool:
        strategy = self.scenario.strategy
        return not isinstance(strategy, FlowerStrategy) and report in strategy.reports

    def _cross_entropy(self, examples: Batch) -> float:
        """Return the mean over examples, in evaluation mode, of the network as it stands."""
        scores = log_probabilities(self.model, examples)
        return float(nll_loss(scores, examples.labels))

    def personal(
        self, site: int, round: int, state: Mapping[str, Tensor], memory: Memory
    ) -> Mapping[str, Tensor]:
        """Return the model with which a site is evaluated, by the scenario's personalisation.

        Args:
            site: whose.
            round: after which.
            state: the global model, or what of it is shared.
            memory: what came of `Trained.memory` in the site's last round.
        """
        client = self.scenario.client
        plan = client.personalisation.tuning(client.plan) if client.personalisation else None
        if plan is None:
            return memory.get(PERSONAL) or self._whole(state, memory)
        self.load(state)
        round = max(1, round)
        self.fit(
            self.examples(site, "train"), round, self.optimizer(round), plan, site=site, tuning=1
        )
        return self.snapshot()

    def rehearse(self, examples: Batch, optimizer: torch.optim.Optimizer, plan: Plan) -> float:
        """Train the network as it stands, to see what it costs, and return the mean objective.

        It is trained as at a site that kept something from an earlier round.

        Args:
            examples: to train on.
            optimizer: over the network.
            plan: what is done.
        """
        regulariser = self.scenario.client.regulariser
        start = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}
        received = dict.fromkeys(regulariser.receives, start) if regulariser else {}
        local = self._local(start, received, memory=start, round=1, num_steps=1)
        loss, _ = self._held(examples, 1, optimizer, plan, regulariser, local)
        return loss

    def _local(
        self,
        start: Mapping[str, Tensor],
        received: Mapping[str, Mapping[str, Tensor]],
        memory: Mapping[str, Tensor],
        round: int,
        num_steps: int,
    ) -> Local:
        """Return what a regulariser knows of a round."""
        shared = frozenset(self._parameters) - self.private
        return Local(start, shared, received, memory, num_steps, self.learning_rate(round))

    def _held(
        self,
        examples: Batch,
        round: int,
        optimizer: torch.optim.Optimizer,
        plan: Plan,
        regulariser: Regulariser | None,
        local: Local,
        **keys: int,
    ) -> tuple[float, Finished]:
        """Train the network as it stands under a regulariser; return loss and what is left."""
        if regulariser is None:
            return self.fit(examples, round, optimizer, plan, None, **keys), Finished()
        with watched(self.model) if regulariser.needs_features else nullcontext() as features:
            local = replace(local, features=features)
            penalty = partial(regulariser.penalty, local=local)
            loss = self.fit(examples, round, optimizer, plan, penalty, **keys)
        return loss, regulariser.finish(self.model, local)

    def _beside(
        self, examples: Batch, round: int, plan: Plan, local: Local, memory: Memory, **keys: int
    ) -> dict[str, Tensor]:
        """Return the personal model that is trained beside the global one, nothing if none is."""
        personalisation = self.scenario.client.personalisation
        if personalisation is None or personalisation.beside is None:
            return {}
        self.load(memory.get(PERSONAL) or local.start)
        optimizer, near = self.optimizer(round), personalisation.beside
        self._held(examples, round, optimizer, plan, near, local, personal=1, **keys)
        return self.snapshot()

    def _whole(self, state: Mapping[str, Tensor], memory: Memory) -> Mapping[str, Tensor]:
        """Return a model that came, with what the site keeps to itself."""
        if not self.private:
            return state
        own = memory.get(PRIVATE) or {name: self.initial[name] for name in self.private}
        return {**own, **state}

    def _private(self) -> frozenset[str]:
        """Return what never leaves a site.

        Raises:
            InputError: if the network has not what the scenario asks for.
        """
        client, model = self.scenario.client, self.model
        try:
            if client.regulariser is not None and client.regulariser.needs_features:
                last_linear(model)
        except ValueError as error:
            raise InputError(f"client.regulariser: {error}") from error
        try:
            return client.personalisation.private(model) if client.personalisation else frozenset()
        except ValueError as error:
            raise InputError(f"client.personalisation: {error}") from error

    def _here(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors on the device."""
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def _as_taught(self, site: int, round: int) -> Batch:
        """Return a site's training examples with the labels that it trains on in a round."""
        examples = self.examples(site, "train")
        for part in self.attackers.at(site, round):
            if isinstance(part, LabelFlip):
                wrong = part.flip(examples.labels, len(self.population.class_names))
                examples = Batch(examples.images, wrong)
        return examples

    def optimizer(self, round: int) -> torch.optim.Optimizer:
        """Return a fresh optimiser over the network, at the round's learning rate."""
        client = self.scenario.client
        return client.optimizer.build(self.model.parameters(), self.learning_rate(round))

    def learning_rate(self, round: int) -> float:
        """Return the learning rate of a round."""
        client = self.scenario.client
        factor = client.schedule.factor(round, self.scenario.rounds)
        return float(client.optimizer.learning_rate * factor)

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
        augmentation, augment = self.scenario.data.augmentation, None
        if augmentation.changes_anything:
            draws = self.streams.torch("augmentation", round=round, **keys)
            augment = partial(augmentation.apply, generator=draws)
        with self.streams.torch_default("training", str(self.device), round=round, **keys):
            return train(
                self.model,
                examples,
                plan,
                self.scenario.client.objective,
                optimizer,
                num_classes=len(self.population.class_names),
                generator=self.streams.torch("batches", round=round, **keys),
                augment=augment,
                penalty=penalty,
            )

    def _tensors(self) -> Mapping[str, Tensor]:
        """Return what `state_dict` would, without its cost at every site in every round."""
        if not self.buffers:
            return self._parameters
        buffers = {n: t for n, t in self.model.named_buffers() if n in self.buffers}
        return {**self._parameters, **buffers}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a copy of a model into the network; what it held before is left as it is."""
        for name, tensor in self._tensors().items():
            tensor.data = state[name].to(tensor, copy=True)

    def snapshot(self) -> dict[str, Tensor]:
        """Return a copy of the model that is in the network, on the CPU."""
        return {name: tensor.detach().clone().cpu() for name, tensor in self._tensors().items()}

    def predict_held_out(self, state: Mapping[str, Tensor]) -> dict[str, dict[str, Predicted]]:
        """Return what a model says of all validation and test images: split -> holder -> that."""
        holders = self.population.holders
        found: dict[str, dict[str, Predicted]] = {}
        for split in HELD_OUT:
            groups = [self.examples(holder, split) for holder in holders]
            found[split] = {
                self.population.name(holder): (scores.cpu().numpy(), group.labels.cpu().numpy())
                for holder, scores, group in zip(
                    holders, self.predict(state, *groups), groups, strict=True
                )
            }
        return found

    def predict_external(self, state: Mapping[str, Tensor]) -> dict[str, Predicted]:
        """Return what a model says of each external set."""
        parts = self.population.external
        groups = [self._external(number) for number in range(len(parts))]
        return {
            part.name: (scores.cpu().numpy(), part.labels)
            for part, scores in zip(parts, self.predict(state, *groups), strict=True)
        }

    def _external(self, number: int) -> Batch:
        if number not in self._external_batches:
            self._external_batches[number] = self._moved(
                self.population.external[number].examples()
            )
        return self._external_batches[number]

    def _moved(self, examples: Examples) -> Batch:
        return Batch(
            torch.from_numpy(examples.images).to(self.device),
            torch.from_numpy(examples.labels).to(self.device),
        )

    def predict(self, state: Mapping[str, Tensor], *groups: Batch) -> list[Tensor]:
        """Return the model's log-probabilities, (example, class), for each group of examples."""
        self.load(state)
        return [log_probabilities(self.model, examples) for examples in groups]
