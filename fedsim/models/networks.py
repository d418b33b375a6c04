"""The networks of our own, as torch modules; loaded when one is built."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def small_cnn(
    num_channels: int, num_classes: int, widths: tuple[int, ...], stride: int, group_size: int
) -> nn.Module:
    """Return convolution blocks, a mean over pixels and a linear layer."""
    layers: list[nn.Module] = []
    for before, after in pairwise((num_channels, *widths)):
        layers += [
            nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1),
            nn.GroupNorm(after // group_size, after),
            nn.ReLU(),
        ]
        if stride == 1:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_classes)
    )


def mlp(num_inputs: int, num_classes: int, widths: tuple[int, ...]) -> nn.Module:
    """Return linear layers with ReLU between them, on flattened images."""
    sizes = (num_inputs, *widths)
    hidden = [
        layer
        for before, after in pairwise(sizes)
        for layer in (nn.Linear(before, after), nn.ReLU())
    ]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], num_classes))
