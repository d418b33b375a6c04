"""One site's private training in a round: the scenario's mechanism, carried out by `clients`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from clients.dpsgd import DpSgd, train_private
from clients.regularisers import Finished, Local, Regulariser
from fedsim.flower.workplace import Workplace
from fedsim.privacy.dp_sgd import DpSgdMechanism, Steps

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from clients.batch import Batch
    from clients.per_example import Mode


def fit(
    workplace: Workplace,
    examples: Batch,
    round: int,
    optimizer: torch.optim.Optimizer,
    steps: Steps,
    regulariser: Regulariser | None,
    local: Local,
    site: int,
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

    Returns:
        The mean objective, and what the regulariser leaves, a function of the noisy model and of
        what the site had received.
    """
    scenario, streams, module = workplace.scenario, workplace.streams, workplace.network.module
    assert scenario.privacy is not None
    mechanism = scenario.privacy.mechanism
    assert isinstance(mechanism, DpSgdMechanism)
    with streams.torch_default("training", str(workplace.device), round=round, site=site):
        trained = train_private(
            module,
            examples,
            _dp_sgd(mechanism, steps, workplace.gradient_mode),
            scenario.client.objective,
            optimizer,
            context=workplace.context(examples, round),
            sampling=streams.torch("sampling", round=round, site=site),
            noise=streams.torch_apart("noise", round * len(workplace.population) + site),
            unit_of_example=workplace.patients(site) if mechanism.unit == "patient" else None,
            augment=workplace.augment(round, site=site),
            penalty=None
            if regulariser is None
            else partial(_penalty, regulariser, examples, local),
        )
    left = Finished() if regulariser is None else regulariser.finish(module, local)
    return trained.loss, left


def _dp_sgd(mechanism: DpSgdMechanism, steps: Steps, mode: Mode) -> DpSgd:
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
