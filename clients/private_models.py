"""Which networks can be trained privately, and what is replaced in those that cannot."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.per_example import Mode

TOLERANCE = 0.01
"""Share of a norm, far above rounding and far below what a wrong gradient is off by."""


def unsuitable(model: nn.Module) -> str | None:
    """Return which layer forbids example-level privacy and why, None if none does.

    These are layers that normalise an example by others, or keep statistics of what they are shown,
    frozen ones included. What cannot be told from the kind of a layer is tried by
    `suited_mode`.
    """
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.instancenorm import _InstanceNorm

    for name, layer in model.named_modules():
        what = f"layer {name!r} ({type(layer).__name__})"
        if isinstance(layer, _BatchNorm):
            return f"{what} normalises every example by the others of its batch"
        if isinstance(layer, _InstanceNorm) and layer.track_running_stats:
            return f"{what} keeps running statistics of what it is shown"
    return None


def made_private(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a network with group in place of batch normalisation, and what was replaced.

    The replacement is that of Opacus' `ModuleValidator.fix` and has its parameters' names and
    shapes: gcd(32, channels) groups, weights of one, biases of zero. Running statistics are gone.
    So the result is another network, and weights that were learned with batch normalisation do not
    serve it as they are. Operations in place stay: they do no harm, see `clients.per_example`.

    Args:
        model: not changed.

    Returns:
        A copy, and a line for every layer that was replaced.
    """
    from opacus.validators.batch_norm import fix
    from torch.nn.modules.batchnorm import _BatchNorm

    private = deepcopy(model)
    changes = []
    for name, layer in model.named_modules():
        if name and isinstance(layer, _BatchNorm):
            device = layer.weight.device if layer.affine else None
            replacement = fix(layer).to(device)
            private.set_submodule(name, replacement)
            changes.append(f"{name}: {layer} -> {replacement}")
    return private, tuple(changes)


def suited_mode(model: nn.Module, image_shape: tuple[int, int, int]) -> Mode:
    """Return the first mode that forms the gradients of single examples of a network.

    They are compared with those that torch finds for each example alone, on random images; where
    training mode draws at random, as dropout does, in evaluation mode. No data are looked at and no
    clock is asked, so the choice tells nothing and repeats. A copy in float64 is tried: in float32
    the rounding of a deep network can move a unit across the kink of its activation, and gradients
    by more than the tolerance.

    Args:
        model: not changed.
        image_shape: (channel, height, width).

    Raises:
        ValueError: if none does, or the network mixes or keeps what it is shown, and why.
    """
    import torch

    if reason := unsuitable(model):
        raise ValueError(reason)
    tried = deepcopy(model).to("cpu", torch.float64)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((3, *image_shape), generator=generator, dtype=torch.float64)
    buffers = {name: buffer.clone() for name, buffer in tried.named_buffers()}
    modes: tuple[Mode, ...] = ("layers", "functorch")
    reasons = []
    with torch.random.fork_rng():
        repeats = torch.equal(tried.train()(images), tried(images))
        _check_examples_apart(tried.train(repeats), images, buffers)
        for mode in modes:
            if (reason := _fault(tried, images, mode, repeats)) is None:
                return mode
            reasons.append(f"{mode}: {reason}")
    raise ValueError("no gradients of single examples: " + "; ".join(reasons))


def _check_examples_apart(model: nn.Module, images: Tensor, buffers: dict[str, Tensor]) -> None:
    import torch

    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            raise ValueError(f"{name} keeps something of what the network is shown")
    with torch.no_grad():
        together, apart = model(images), torch.cat([model(image[None]) for image in images])
    if not (together - apart).norm() <= TOLERANCE * apart.norm():
        raise ValueError("what the network returns for an example depends on the others shown")


def _fault(model: nn.Module, images: Tensor, mode: Mode, repeats: bool) -> str | None:
    """Return why a mode does not form the gradients of single examples, None if it does.

    It must run in training mode, and be right in the mode where outputs repeat.
    """
    import torch

    from clients.per_example import PerUnit

    try:
        with PerUnit(model, mode) as per_unit:
            for training in (True, repeats):
                model.train(training)
                _, found = per_unit.gradients(partial(_projection, model, images), len(images))
    except (ValueError, RuntimeError, NotImplementedError) as error:
        return str(error).partition("\n")[0]
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for row, image in enumerate(images):
        slopes = torch.autograd.grad(
            _projection(model, image[None]), list(named.values()), allow_unused=True
        )
        whole = torch.stack([slope.norm() for slope in slopes if slope is not None]).norm()
        for (name, parameter), slope in zip(named.items(), slopes, strict=True):
            alone = torch.zeros_like(parameter) if slope is None else slope
            formed = found[parameter].formed().values[row] if parameter in found else 0 * alone
            if not (formed - alone).norm() <= TOLERANCE * (alone.norm() + TOLERANCE * whole):
                return f"the gradient in {name} is not that of the example alone"
    return None


def _projection(model: nn.Module, images: Tensor) -> Tensor:
    """Return a sum over rows of a function of each row's output."""
    import torch

    outputs: Tensor = model(images)
    weights = torch.arange(1.0, outputs[0].numel() + 1, device=outputs.device).cos()
    return (outputs.flatten(1) * weights).sum()
