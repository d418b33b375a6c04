"""One site's round: from the model that came to the local one, and what is kept and sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import Tensor

from clients.batch import Batch
from clients.evaluation import predict
from clients.regularisers import Local, Proximal
from clients.training import Plan
from fedsim.adversaries import LabelFlip
from fedsim.errors import RunError
from fedsim.flower import personal_models, private_training, regularised
from fedsim.flower.client_memory import Memory
from fedsim.flower.personal_models import PERSONAL, PRIVATE
from fedsim.flower.workplace import Workplace
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.mechanism import Release
from fedsim.privacy.site_noise import SiteNoise
from fedsim.scenario import Scenario
from fedsim.scenario.flower_strategy import FlowerStrategy
from strategies.principal_gradient import UPDATE_NOISE
from strategies.q_fed_avg import START_LOSS

NOTHING: Mapping[str, Mapping[str, Tensor]] = MappingProxyType({})
REGULARISER = "regulariser"
"""Where a site's memory has what its regulariser keeps."""


@dataclass(frozen=True)
class Trained:
    """What came of one site's training.

    Args:
        state: the local model, or what of it is shared; not touched any more once the next one is
            loaded.
        loss: mean objective; nan if the site keeps it to itself.
        num_examples: of the site, for training.
        num_steps: taken by the optimiser.
        sent: array records that go to the server beside the model, by their name.
        memory: what the site keeps for its next round, by what keeps it.
        start_loss: mean loss of the model that came, if the strategy asks for it.
        update_noise: standard deviation of the noise in its update, if the strategy asks for it.
    """

    state: Mapping[str, Tensor]
    loss: float
    num_examples: int
    num_steps: int
    sent: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)
    start_loss: float | None = None
    update_noise: float | None = None


def train(
    workplace: Workplace,
    site: int,
    round: int,
    state: Mapping[str, Tensor],
    proximal_mu: float = 0.0,
    plan: Plan | None = None,
    received: Mapping[str, Mapping[str, Tensor]] = NOTHING,
    memory: Memory = NOTHING,
    release: Release | None = None,
) -> Trained:
    """Train one site for one round.

    Args:
        workplace: of the site.
        site: which one.
        round: which one, 1-based.
        state: the global model, or what of it is shared.
        proximal_mu: weight of the proximal term, if the server asks for one.
        plan: what the site does; by default as the scenario says.
        received: array records that came with the model, by their name.
        memory: what came of `Trained.memory` in the site's last round.
        release: what it releases or takes part in, None if nothing is private.

    Raises:
        RunError: if it is to be private and no release came: nothing is trained then.
    """
    if release is None and workplace.scenario.privacy is not None:
        raise RunError("training is private, but no private release came with the model")
    steps = release if isinstance(release, Steps) else None
    client, network = workplace.scenario.client, workplace.network
    plan = plan or client.plan
    regulariser = Proximal(weight=proximal_mu) if proximal_mu else client.regulariser
    examples = taught(workplace, site, round)
    if steps is None:
        num_steps = plan.num_steps(len(examples), examples.num_bags)
    else:
        num_steps = steps.num_steps
    local = Local(
        start=workplace.here(personal_models.completed(network, state, memory)),
        shared=network.shared,
        received={name: workplace.here(tensors) for name, tensors in received.items()},
        memory=workplace.here(memory.get(REGULARISER, {})),
        num_steps=num_steps,
        learning_rate=workplace.learning_rate(round),
    )
    network.load(local.start)
    start_loss = _start_loss(workplace, examples)
    optimizer = workplace.optimizer(round)
    if steps is None:
        loss, left = regularised.fit(
            workplace, examples, round, optimizer, plan, regulariser, local, site=site
        )
    else:
        loss, left = private_training.fit(
            workplace, examples, round, optimizer, steps, regulariser, local, site
        )
    trained = {name: tensor.detach() for name, tensor in network.tensors().items()}
    if isinstance(release, SiteNoise):
        names = [name for name in trained if name in network.trained]
        trained |= release.sent(
            {name: local.start[name] for name in names},
            {name: trained[name] for name in names},
            workplace.streams,
            round,
            site,
            len(workplace.population),
        )
    kept = {
        REGULARISER: left.memory,
        PRIVATE: {name: trained[name] for name in sorted(network.private)},
        PERSONAL: personal_models.train_beside(
            workplace, site, round, examples, plan, local, memory, steps
        ),
    }
    return Trained(
        {name: tensor for name, tensor in trained.items() if name not in network.private},
        float("nan") if _keeps_losses(workplace.scenario) else loss,
        len(examples),
        num_steps,
        left.sent,
        {whose: tensors for whose, tensors in kept.items() if tensors},
        start_loss,
        _update_noise(workplace.scenario, release),
    )


def _keeps_losses(scenario: Scenario) -> bool:
    """Return whether sites keep their training losses to themselves."""
    return scenario.privacy is not None and scenario.privacy.strict


def taught(workplace: Workplace, site: int, round: int) -> Batch:
    """Return a site's training examples with the labels that it trains on in a round."""
    examples = workplace.examples(site, "train")
    for part in workplace.attackers.at(site, round):
        if isinstance(part, LabelFlip):
            wrong = part.flip(examples.labels, len(workplace.population.class_names))
            examples = Batch(examples.images, wrong)
    return examples


def _update_noise(scenario: Scenario, release: Release | None) -> float | None:
    """Return the standard deviation of the noise in an update, if the strategy asks for it."""
    strategy = scenario.strategy
    if isinstance(strategy, FlowerStrategy) or UPDATE_NOISE not in strategy.reports:
        return None
    return release.std if isinstance(release, SiteNoise) else 0.0


def _start_loss(workplace: Workplace, examples: Batch) -> float | None:
    """Return the mean loss of the network as it stands, if the strategy asks for it."""
    strategy = workplace.scenario.strategy
    if isinstance(strategy, FlowerStrategy) or START_LOSS not in strategy.reports:
        return None
    target = workplace.scenario.data.predicted
    scores = predict(workplace.network.module, examples, target)
    return float(target.loss(scores, examples.labels))
