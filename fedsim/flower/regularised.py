"""Training the network as it stands under what holds a site to the others."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch

from clients.batch import Batch
from clients.regularisers import Finished, Local, Regulariser
from clients.regularisers.features import watched
from clients.training import Plan
from fedsim.flower.workplace import Workplace


def fit(
    workplace: Workplace,
    examples: Batch,
    round: int,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    regulariser: Regulariser | None,
    local: Local,
    **keys: int,
) -> tuple[float, Finished]:
    """Train under a regulariser; return the mean objective and what is left of the round.

    Args:
        workplace: whose network is trained.
        examples: to train on.
        round: which one, 1-based.
        optimizer: over the network.
        plan: what is done.
        regulariser: if any.
        local: what it knows of the round, but for features.
        keys: of the random streams, beside the round.
    """
    if regulariser is None:
        return workplace.fit(examples, round, optimizer, plan, None, **keys), Finished()
    module = workplace.network.module
    with watched(module) if regulariser.needs_features else nullcontext() as features:
        local = replace(local, features=features)
        penalty = partial(regulariser.penalty, local=local)
        loss = workplace.fit(examples, round, optimizer, plan, penalty, **keys)
    return loss, regulariser.finish(module, local)


def rehearse(
    workplace: Workplace, examples: Batch, optimizer: torch.optim.Optimizer, plan: Plan
) -> float:
    """Train to see what it costs, and return the mean objective.

    It is trained as at a site that kept something from an earlier round.

    Args:
        workplace: whose network is trained.
        examples: to train on.
        optimizer: over the network.
        plan: what is done.
    """
    regulariser, network = workplace.scenario.client.regulariser, workplace.network
    start = {name: tensor.detach().clone() for name, tensor in network.tensors().items()}
    received = dict.fromkeys(regulariser.receives, start) if regulariser else {}
    rate = workplace.learning_rate(1)
    local = Local(start, network.shared, received, memory=start, num_steps=1, learning_rate=rate)
    return fit(workplace, examples, 1, optimizer, plan, regulariser, local)[0]
