"""Differentially private SGD in a client (Abadi et al., CCS 2016), for examples, patients or bags.

Of U units, every step takes each with probability q, independently (Poisson sampling), and releases

    g = (sum_u clip(g_u) + N(0, (sigma C)^2 I)) / (q U) + grad R(w)

on which torch's optimiser then acts: all that follows is post-processing.

- g_u is the sum of the gradients of the unit's examples; of a bag, the gradient of its loss. So of
  patients with k images each it is some k times as long: C and the learning rate go with the unit.
- ||clip(g_u)|| <= C, so a unit moves the sum by C if it is added, left out or made zero, by 2 C if
  it is replaced. `per_layer` clips each parameter tensor to C / sqrt(L), L of them. A unit whose
  gradient is not finite adds nothing, and so does an empty sample: its step is taken with noise
  alone.
- The denominator is the expected number of units, not that of the sample, which is secret. U itself
  is taken for public, as in the neighbouring relation that makes a unit zero.
- R is a function of the parameters and of constants of the round alone, such as a proximal term or
  control variates, all of them functions of earlier releases. Then so is grad R: it tells nothing
  new of the data, and is added after the noise as it is. Its type keeps the batch from it. Terms of
  the batch belong into the objective.
- Large samples are worked on in parts of whole units and the clipped gradients added up: the same
  as one pass, up to the order of the additions.
- Several changed copies of an example (augmentation multiplicity, De et al. 2022, arXiv:2204.13650)
  have their gradients averaged before clipping, and count as one.

The noise multiplier sigma is the standard deviation over C, for the sum. Every number that the
accountant needs is in `DpSgd`. The noise is drawn for each trainable parameter in the order of
`model.parameters()`, as Opacus' DPOptimizer draws it: on the same sample and generator both make
the same step. That optimiser is not used because it divides by the number of accumulated parts,
clips rows where a unit has several, lets one gradient that is not finite spoil all parameters,
and leaves attributes on them. Averaging of parameters over steps (De et al.) is left to the server,
over rounds: what a client sends is what the server averages.

Floating-point noise is not secure against an adversary who reads its lowest bits (Mironov 2012);
this is a simulator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from clients.private_models import unsuitable
from clients.units import Part, Units, poisson_sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from clients.batch import Batch
    from clients.objectives.base import Context, Objective
    from clients.per_example import Mode


@dataclass(frozen=True)
class DpSgd:
    """One site's private training in one round.

    Args:
        clip_norm: C, bound on the L2 norm of one unit's gradient.
        noise_multiplier: sigma; 0 clips without noise, which protects nothing.
        sampling_rate: q, the chance of a unit to be in a step.
        num_steps: releases.
        clipping: all parameters together, or each tensor to its share of C.
        num_augmentations: changed copies of an example whose gradients are averaged.
        max_physical_batch: rows (examples times copies) whose gradients are formed at a time. It
            bounds memory and changes results by rounding alone.
        mode: how gradients are formed, see `clients.private_models.suited_mode`; by rounding alone.

    Raises:
        ValueError: if a number is out of its range.
    """

    clip_norm: float
    noise_multiplier: float
    sampling_rate: float
    num_steps: int
    clipping: Literal["flat", "per_layer"] = "flat"
    num_augmentations: int = 1
    max_physical_batch: int = 128
    mode: Mode = "layers"

    def __post_init__(self) -> None:
        if not 0 < self.clip_norm < math.inf:
            raise ValueError(f"expected a finite clip_norm > 0, got {self.clip_norm}")
        if not 0 <= self.noise_multiplier < math.inf:
            raise ValueError(f"expected a noise_multiplier >= 0, got {self.noise_multiplier}")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"expected a sampling_rate in (0, 1], got {self.sampling_rate}")
        if min(self.num_steps, self.num_augmentations, self.max_physical_batch) < 1:
            raise ValueError("expected at least one step, augmentation and example at a time")

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise on the clipped sum, sigma C."""
        return self.noise_multiplier * self.clip_norm


@dataclass(frozen=True)
class PrivatelyTrained:
    """What was seen of a private training. Nothing of it is protected.

    Args:
        loss: mean of the objective over all examples or bags seen, at the parameters before each
            step, without parts of samples where it is not finite; nan if none is left.
        num_units: contributions of units, over all steps.
        num_empty: steps without any.
        num_clipped: contributions that were longer than their bound.
        num_not_finite: contributions that were left out because they were not finite.
    """

    loss: float
    num_units: int
    num_empty: int
    num_clipped: int
    num_not_finite: int


def train_private(
    model: nn.Module,
    examples: Batch,
    mechanism: DpSgd,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    *,
    context: Context,
    sampling: torch.Generator,
    noise: torch.Generator,
    unit_of_example: Tensor | None = None,
    augment: Callable[[Batch], Batch] | None = None,
    penalty: Callable[[nn.Module], Tensor] | None = None,
) -> PrivatelyTrained:
    """Train `model` in place with differential privacy for each unit.

    A function of its arguments alone, dropout aside; no hook or attribute is left on the model.

    Args:
        model: the global model of the round; becomes the local one. `unsuitable` must pass it.
        examples: the site's training examples on the model's device.
        mechanism: all that the accountant needs to know.
        objective: what is minimised; a mean of losses of single examples, or any loss of a bag.
        optimizer: torch's optimiser over the model's trainable parameters.
        context: what the objective may know beside the batch. Class counts in it must be public or
            released by a mechanism of their own where the objective uses them.
        sampling: source of the samples; a CPU generator, the same draws whatever the device.
        noise: source of the noise, of no other draws; on any device.
        unit_of_example: (example,), int64, from 0 without a gap: which unit, such as a patient,
            each example belongs to; every example is one of its own if not given. Where examples
            lie in bags, bags are the units.
        augment: applied to every part of a sample, if given; it must treat examples one by one.
        penalty: R, of the parameters alone; its gradient is added after the noise.

    Raises:
        ValueError: if the model, the objective or the examples do not allow what was promised.
    """
    import torch

    from clients.per_example import PerUnit
    from clients.unit_gradients import clip

    _check(model, examples, mechanism, objective, augment)
    units = Units(examples, unit_of_example)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    largest = max(1, mechanism.max_physical_batch // mechanism.num_augmentations)
    num_layers = len(parameters) if mechanism.clipping == "per_layer" else None
    sizes, num_losses, counts = [], [], []
    model.train()
    with PerUnit(model, mechanism.mode) as per_unit:
        for _ in range(mechanism.num_steps):
            chosen = poisson_sample(len(units), mechanism.sampling_rate, sampling)
            sums: dict[Tensor, Tensor] = {}
            for part in units.parts(chosen, largest):
                copies = _copied(part, mechanism.num_augmentations)
                batch = augment(copies.batch) if augment else copies.batch
                value, gradients = per_unit.gradients(
                    partial(summed_loss, model, batch, objective, context, len(part.batch)),
                    copies.num_units,
                    copies.unit_of_example,
                )
                clipped = clip(gradients, mechanism.clip_norm, num_layers)
                for parameter, of_part in clipped.sums.items():
                    sums[parameter] = sums[parameter] + of_part if parameter in sums else of_part
                num_losses.append(part.batch.num_bags or len(part.batch))
                counts.append(torch.stack([value, clipped.num_clipped, clipped.num_not_finite]))
            _release(parameters, sums, mechanism, len(units), noise)
            if penalty is not None:
                _add_gradient(penalty(model), parameters)
            optimizer.step()
            sizes.append(len(chosen))
    return _summary(sizes, num_losses, counts)


def _check(
    model: nn.Module,
    examples: Batch,
    mechanism: DpSgd,
    objective: Objective,
    augment: Callable[[Batch], Batch] | None,
) -> None:
    if reason := unsuitable(model):
        raise ValueError(f"{reason}: no example-level privacy")
    if mechanism.num_augmentations > 1 and (augment is None or examples.bags is not None):
        raise ValueError("several augmentations need an `augment`, and examples not in bags")
    if examples.bags is None and objective.couples_examples:
        raise ValueError(
            f"the objective {objective.kind!r} as set here couples the examples of a batch: each "
            "would move the gradients of others, so clipping would not bound what it does"
        )


def _copied(part: Part, num: int) -> Part:
    """Return a part with each example so many times, next to one another."""
    import torch

    if num == 1:
        return part
    batch, units = part.batch, part.unit_of_example
    if units is None:
        units = torch.arange(len(batch), device=batch.labels.device)
    images, labels = batch.images, batch.labels
    copies = replace(
        batch, images=images.repeat_interleave(num, 0), labels=labels.repeat_interleave(num)
    )
    return replace(part, batch=copies, unit_of_example=units.repeat_interleave(num))


def summed_loss(
    model: nn.Module, batch: Batch, objective: Objective, context: Context, num_examples: int
) -> Tensor:
    """Return the sum of the losses of examples, each the mean over its copies, or of bags.

    The objective is shown one bag at a time, so whatever it computes of a batch, it cannot let one
    bag move another's loss.
    """
    import torch

    if batch.bags is None:
        return objective.loss(model, batch, context) * num_examples
    losses = []
    sizes = batch.bags.sizes.tolist()
    for number, outputs in enumerate(torch.split(model(batch.images), sizes)):
        bag = batch.select_bags(torch.tensor([number], device=outputs.device))
        answers = cast("nn.Module", lambda _, outputs=outputs: outputs)
        losses.append(objective.loss(answers, bag, context))
    return torch.stack(losses).sum()


def _release(
    parameters: list[nn.Parameter],
    sums: dict[Tensor, Tensor],
    mechanism: DpSgd,
    num_units: int,
    generator: torch.Generator,
) -> None:
    """Make the noisy sum over the expected number of units the gradient of every parameter."""
    from clients.gaussian import standard_normal

    for parameter in parameters:
        noise = standard_normal(parameter.shape, generator).mul_(mechanism.noise_scale)
        noisy = noise.to(parameter.dtype).to(parameter.device)
        if parameter in sums:
            noisy += sums[parameter]
        parameter.grad = noisy.div_(mechanism.sampling_rate * num_units)


def _add_gradient(penalty: Tensor, parameters: list[nn.Parameter]) -> None:
    import torch

    slopes = torch.autograd.grad(penalty, parameters, allow_unused=True)
    for parameter, slope in zip(parameters, slopes, strict=True):
        if slope is not None:
            assert parameter.grad is not None
            parameter.grad += slope


def _summary(sizes: list[int], num_losses: list[int], counts: list[Tensor]) -> PrivatelyTrained:
    """Return what was counted.

    Args:
        sizes: units in every step.
        num_losses: examples or bags in every part.
        counts: of every part: sum of losses, units clipped, units left out.
    """
    import torch

    table = torch.stack(counts).tolist() if counts else []
    finite = [
        (total, num)
        for (total, *_), num in zip(table, num_losses, strict=True)
        if math.isfinite(total)
    ]
    seen = sum(num for _, num in finite)
    return PrivatelyTrained(
        loss=math.fsum(total for total, _ in finite) / seen if finite else math.nan,
        num_units=sum(sizes),
        num_empty=sizes.count(0),
        num_clipped=sum(int(clipped) for _, clipped, _ in table),
        num_not_finite=sum(int(left_out) for *_, left_out in table),
    )
