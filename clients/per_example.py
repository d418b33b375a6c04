"""Gradients of the single units of a batch, from one backward pass.

A layer's gradient for example i is a function of what the layer was shown of i and of the slope of
the loss in what it returned for i. So a forward pass that notes the former and a backward pass to
the outputs of the layers give the gradients of all examples, and that of the batch need not be
formed beside them (book-keeping, Bu et al. 2023, arXiv:2210.00038).

Why this and not a wrapper of Opacus: its modes `hooks`, `functorch` and `ew` form the gradient of
the batch as well, `ghost` runs a second backward pass, all clip rows where a unit has several, and
all but `ew` fail on operations in place. The numbers are the same (tests hold it), and layers that
are not written out here are left to Opacus' own `GRAD_SAMPLERS`, or to `torch.func` where it has
none. Nothing is wrapped and no attribute is left behind: hooks live as long as the `with` block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call, grad, vmap
from torch.nn.functional import group_norm, pad

from clients.unit_gradients import Formed, Outer, UnitGradients

if TYPE_CHECKING:
    from torch.autograd.graph import GradientEdge

Mode = Literal["layers", "functorch"]
"""Whether layers are treated one by one, or the whole network as one layer by `torch.func`."""
AT_ONCE = 2**20
"""Numbers that the input of a convolution is spread to at a time, so that caches hold them."""


@dataclass(frozen=True)
class _Use:
    """One use of a layer.

    Args:
        name: of the layer.
        layer: the same.
        inputs: what it was shown, (row, ...).
        version: of the inputs, which counts changes in place.
        output: where what it returned stands in the graph.
    """

    name: str
    layer: nn.Module
    inputs: Tensor
    version: int
    output: GradientEdge


class PerUnit:
    """Forms gradients of single units while it is entered.

    What is asked of the network: what a layer returns for a row depends on what it is shown of that
    row alone, which `clients.private_models.suited_mode` tries.

    Args:
        model: the network.
        mode: how gradients are formed; the results agree to rounding.
    """

    def __init__(self, model: nn.Module, mode: Mode = "layers") -> None:
        self._layers = {model: ""} if mode == "functorch" else _layers(model)
        self._sampler = _of_function if mode == "functorch" else _of_layer
        self._uses: list[_Use] | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> PerUnit:
        self._handles = [
            layer.register_forward_hook(self._note, with_kwargs=True) for layer in self._layers
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def gradients(
        self, total: Callable[[], Tensor], num_units: int, unit_of_row: Tensor | None = None
    ) -> tuple[Tensor, UnitGradients]:
        """Return a loss and its gradients by unit.

        Args:
            total: shows the network rows of images and returns the sum of the losses of the units.
            num_units: how many there are.
            unit_of_row: the unit that each row belongs to, (row,), int64; each is one of its own if
                not given.

        Returns:
            The loss, and the gradients in every trainable parameter that it depends on.

        Raises:
            ValueError: if a layer is not used as a function of one tensor that stays as it is.
        """
        value, uses = self._watched(total)
        slopes = torch.autograd.grad(value, [use.output for use in uses], allow_unused=True)
        found: UnitGradients = {}
        with torch.no_grad():
            for use, slope in zip(uses, slopes, strict=True):
                if slope is None:
                    continue
                if use.inputs._version != use.version:
                    raise ValueError(f"what layer {use.name!r} was shown is changed in place later")
                for parameter, rows in self._sampler(use.layer, use.inputs, slope).items():
                    if unit_of_row is not None:
                        rows = rows.formed().added(unit_of_row, num_units)
                    if parameter in found:
                        rows = Formed(found[parameter].formed().values + rows.formed().values)
                    found[parameter] = rows
        return value.detach(), found

    def _watched(self, total: Callable[[], Tensor]) -> tuple[Tensor, list[_Use]]:
        """Return a loss and what layers were shown for it."""
        uses: list[_Use] = []
        self._uses = uses
        try:
            return total(), uses
        finally:
            self._uses = None

    def _note(self, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self._uses is None:
            return
        name = self._layers[layer]
        if kwargs or len(args) != 1 or not isinstance(output, Tensor):
            raise ValueError(f"layer {name!r} does not map one tensor to one")
        inputs = args[0].detach()
        edge = get_gradient_edge(output)
        self._uses.append(_Use(name, layer, inputs, inputs._version, edge))


def _layers(model: nn.Module, name: str = "") -> dict[nn.Module, str]:
    """Return the outermost modules that hold trainable parameters themselves, and their names."""
    if any(parameter.requires_grad for parameter in model.parameters(recurse=False)):
        return {model: name}
    found: dict[nn.Module, str] = {}
    for child_name, child in model.named_children():
        found |= _layers(child, f"{name}.{child_name}" if name else child_name)
    return found


def _of_layer(layer: nn.Module, inputs: Tensor, slopes: Tensor) -> UnitGradients:
    """Return the gradients of a layer by row.

    Args:
        layer: holds the parameters.
        inputs: what it was shown, (row, ...).
        slopes: gradient of the loss in what it returned, (row, ...).
    """
    form = _written_out(layer) or _of_opacus(layer) or _of_function
    rows = form(layer, inputs, slopes)
    return {
        parameter: gradients for parameter, gradients in rows.items() if parameter.requires_grad
    }


Form = Callable[[Any, Tensor, Tensor], UnitGradients]


def _written_out(layer: nn.Module) -> Form | None:
    """Return what forms the gradients of the layers that nearly all networks are made of."""
    if type(layer) is nn.Linear:
        return _of_linear
    if type(layer) is nn.Conv2d and _pads_with_zeros(layer):
        return _of_conv2d
    return _of_group_norm if type(layer) is nn.GroupNorm else None


def _pads_with_zeros(layer: nn.Module) -> bool:
    return getattr(layer, "padding_mode", "zeros") == "zeros" and not isinstance(
        getattr(layer, "padding", 0), str
    )


def _of_linear(layer: nn.Linear, inputs: Tensor, slopes: Tensor) -> UnitGradients:
    if inputs.ndim > 2:
        positions, slopes_there = inputs.flatten(1, -2), slopes.flatten(1, -2)
        weight: Formed | Outer = Formed(slopes_there.transpose(1, 2) @ positions)
        bias = slopes_there.sum(1)
    else:
        weight, bias = Outer(slopes, inputs), slopes
    return {layer.weight: weight} | ({} if layer.bias is None else {layer.bias: Formed(bias)})


def _of_conv2d(layer: nn.Conv2d, inputs: Tensor, slopes: Tensor) -> UnitGradients:
    some = max(1, AT_ONCE // (layer.weight[0].numel() * layer.groups * slopes[0, 0].numel()))
    weight = torch.cat(
        [
            _of_conv2d_weight(layer, rows, slopes_there)
            for rows, slopes_there in zip(
                torch.split(inputs, some), torch.split(slopes, some), strict=True
            )
        ]
    )
    found: UnitGradients = {layer.weight: Formed(weight)}
    if layer.bias is not None:
        found[layer.bias] = Formed(slopes.flatten(2).sum(2))
    return found


def _of_conv2d_weight(layer: nn.Conv2d, inputs: Tensor, slopes: Tensor) -> Tensor:
    """Return gradients by row, (row, *weight)."""
    pixels = slopes.flatten(2)
    by_group = (len(inputs) * layer.groups, -1, pixels.shape[2])
    patches = _patches(layer, inputs).reshape(by_group)
    weight = pixels.reshape(by_group) @ patches.transpose(1, 2)
    return weight.view(len(inputs), *layer.weight.shape)


def _patches(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return a view, (row, channel, *kernel, *pixel), of what each output pixel is made from.

    The copy that is made of it takes a fraction of the time of `torch.nn.functional.unfold`.
    """
    assert not isinstance(layer.padding, str)
    down, right = layer.padding
    patches = pad(inputs, (right, right, down, down))
    for axis, size, stride, dilation in zip(
        (2, 3), layer.kernel_size, layer.stride, layer.dilation, strict=True
    ):
        patches = patches.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
    return patches.permute(0, 1, 4, 5, 2, 3)


def _of_group_norm(layer: nn.GroupNorm, inputs: Tensor, slopes: Tensor) -> UnitGradients:
    channels = (*inputs.shape[:2], -1)
    normal = group_norm(inputs, layer.num_groups, eps=layer.eps)
    return {
        layer.weight: Formed((normal * slopes).view(channels).sum(2)),
        layer.bias: Formed(slopes.reshape(channels).sum(2)),
    }


def _of_opacus(layer: nn.Module) -> Form | None:
    """Return Opacus' form of a layer's gradients, None if it has none or misreads the layer."""
    from opacus.grad_sample import GradSampleHooks

    form = GradSampleHooks.GRAD_SAMPLERS.get(type(layer))
    has_all = all(parameter is not None for parameter in layer._parameters.values())
    if form is None or not has_all or not _pads_with_zeros(layer):
        return None

    def formed(layer: nn.Module, inputs: Tensor, slopes: Tensor) -> UnitGradients:
        return {p: Formed(rows) for p, rows in form(layer, [inputs], slopes).items()}

    return formed


def _of_function(layer: nn.Module, inputs: Tensor, slopes: Tensor) -> UnitGradients:
    """Differentiate a layer, whatever it is, as a function of its parameters, row by row."""
    trainable = {name: p for name, p in layer.named_parameters() if p.requires_grad}

    def product(parameters: dict[str, Tensor], row: Tensor, slope: Tensor) -> Tensor:
        output: Tensor = functional_call(layer, parameters, (row[None],))
        return (output * slope[None]).sum()

    values = {name: p.detach() for name, p in trainable.items()}
    rows = vmap(grad(product), in_dims=(None, 0, 0))(values, inputs, slopes)
    return {trainable[name]: Formed(gradients) for name, gradients in rows.items()}
