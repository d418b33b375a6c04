"""One site's private training in a round: the scenario's mechanism, carried out by `clients`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from clients.dpsgd import DpSgd, train_private
from clients.regularisers import Finished, Local, Regulariser
from fedsim.flower.workplace import Workplace
from fedsim.privacy.dp_sgd import DpSgdMechanism, Steps

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from clients.batch import Batch
    from clients.per_example import Mode

Model = Literal["shared", "personal", "alone"]
"""The local model of the global one, one beside it, or that of a site that trains alone."""
MODELS: tuple[Model, ...] = get_args(Model)


def fit(
    workplace: Workplace,
    examples: Batch,
    round: int,
    optimizer: torch.optim.Optimizer,
    steps: Steps,
    regulariser: Regulariser | None,
    local: Local,
    site: int,
    model: Model = "shared",
) -> tuple[float, Finished]:
    """Train the network as it stands with noise; return the loss and what is left of the round.

    Args:
        workplace: whose network is trained.
        examples: to train on.
        round: which one, 1-based.
        optimizer: over the network.
        steps: what the ledger has of this round.
        regulariser: of the parameters alone, if any.
        local: what it knows of the round.
        site: whose examples they are.
        model: which of the site's models it is.

    Returns:
        The mean objective, and what the regulariser leaves, a function of the noisy model and of
        what the site had received.
    """
    penalty = None if regulariser is None else partial(_penalty, regulariser, examples, local)
    loss = train(workplace, examples, round, optimizer, steps, site, model, penalty)
    if regulariser is None:
        return loss, Finished()
    return loss, regulariser.finish(workplace.network.module, local)


def train(
    workplace: Workplace,
    examples: Batch,
    round: int,
    optimizer: torch.optim.Optimizer,
    steps: Steps,
    site: int,
    model: Model,
    penalty: Callable[[nn.Module], Tensor] | None = None,
) -> float:
    """Train the network as it stands with noise and return the mean objective.

    Args:
        workplace: whose network is trained.
        examples: to train on.
        round: which one, 1-based.
        optimizer: over the network.
        steps: what the ledger has of this round.
        site: whose examples they are.
        model: which of the site's models it is; each has samples and noise of its own.
        penalty: of the parameters alone.
    """
    scenario, streams = workplace.scenario, workplace.streams
    assert scenario.privacy is not None
    mechanism = scenario.privacy.mechanism
    assert isinstance(mechanism, DpSgdMechanism)
    keys = {"site": site} if model == "shared" else {"site": site, model: 1}
    block = MODELS.index(model) * (scenario.rounds + 1) + round
    number = block * len(workplace.population) + site
    with streams.torch_default("training", str(workplace.device), round=round, **keys):
        return train_private(
            workplace.network.module,
            examples,
            dp_sgd(mechanism, steps, workplace.gradient_mode),
            scenario.client.objective,
            optimizer,
            context=workplace.context(examples, round),
            sampling=streams.torch_apart("sampling", number),
            noise=streams.torch_apart("noise", number),
            unit_of_example=unit_of_example(workplace, site),
            augment=workplace.augment(round, **keys),
            penalty=penalty,
        ).loss


def unit_of_example(workplace: Workplace, site: int) -> Tensor | None:
    """Return the unit of every training example of a site, see `clients.units.Units`."""
    privacy = workplace.scenario.privacy
    assert privacy is not None
    return workplace.patients(site) if privacy.mechanism.unit == "patient" else None


def dp_sgd(mechanism: DpSgdMechanism, steps: Steps, mode: Mode) -> DpSgd:
    """Return what a site does: how the scenario's mechanism says, as often as the ledger does."""
    return DpSgd(
        mechanism.clip_norm,
        steps.noise_multiplier,
        steps.sampling_rate,
        steps.num_steps,
        mechanism.clipping,
        mechanism.num_augmentations,
        mechanism.max_physical_batch,
        mode,
    )


def _penalty(regulariser: Regulariser, examples: Batch, local: Local, model: nn.Module) -> Tensor:
    """Return the term; it is shown no example, so it cannot look at one."""
    return regulariser.penalty(model, examples[:0], local)
