"""The model of a site's own: what it keeps of a model, trains beside it, and is evaluated with."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from clients.batch import Batch
from clients.regularisers import Local
from clients.training import Plan
from fedsim.flower import private_training, regularised
from fedsim.flower.client_memory import Memory
from fedsim.flower.network import Network
from fedsim.flower.workplace import Workplace
from fedsim.privacy.dp_sgd import Steps

PRIVATE, PERSONAL = "private", "personal"
"""Where a site's memory has what never leaves it, and the model that is trained beside."""


def completed(
    network: Network, state: Mapping[str, Tensor], memory: Memory
) -> Mapping[str, Tensor]:
    """Return a model that came, with what the site keeps to itself.

    Args:
        network: says what is private, and how it starts.
        state: what came.
        memory: of the site.
    """
    if not network.private:
        return state
    own = memory.get(PRIVATE) or {name: network.initial[name] for name in network.private}
    return {**own, **state}


def train_beside(
    workplace: Workplace,
    site: int,
    round: int,
    examples: Batch,
    plan: Plan,
    local: Local,
    memory: Memory,
    steps: Steps | None = None,
) -> dict[str, Tensor]:
    """Return the personal model that is trained beside the global one, nothing if none is.

    Args:
        workplace: of the site.
        site: whose.
        round: which one, 1-based.
        examples: to train on.
        plan: what is done, as for the global model.
        local: what is known of the round.
        memory: of the site, after its last round.
        steps: the private steps that it takes, None if training is not private.
    """
    personalisation = workplace.scenario.client.personalisation
    if personalisation is None or personalisation.beside is None:
        return {}
    workplace.network.load(memory.get(PERSONAL) or local.start)
    optimizer, near = workplace.optimizer(round), personalisation.beside
    if steps is not None:
        private_training.fit(
            workplace, examples, round, optimizer, steps, near, local, site, "personal"
        )
    else:
        regularised.fit(
            workplace, examples, round, optimizer, plan, near, local, site=site, personal=1
        )
    return workplace.network.snapshot()


def personal(
    workplace: Workplace, site: int, round: int, state: Mapping[str, Tensor], memory: Memory
) -> Mapping[str, Tensor]:
    """Return the model with which a site is evaluated, by the scenario's personalisation.

    Args:
        workplace: of the site.
        site: whose.
        round: after which.
        state: the global model, or what of it is shared.
        memory: of the site, after its last round.
    """
    client, network = workplace.scenario.client, workplace.network
    plan = client.personalisation.tuning(client.plan) if client.personalisation else None
    if plan is None:
        return memory.get(PERSONAL) or completed(network, state, memory)
    network.load(state)
    examples, round = workplace.examples(site, "train"), max(1, round)
    workplace.fit(examples, round, workplace.optimizer(round), plan, site=site, tuning=1)
    return network.snapshot()
