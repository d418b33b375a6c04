"""Operations and memory of a training step, counted by hand for a linear and a conv layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsim.fleet.footprint import Footprint, measure

FLOAT = 4


def measured(
    model: nn.Module, images: Tensor, make: Callable[..., Any] = torch.optim.SGD, **settings: Any
) -> Footprint:
    optimizer = make(model.parameters(), lr=0.1, **settings)

    def step(num: int) -> None:
        optimizer.zero_grad()
        model(images[:num]).sum().backward()
        optimizer.step()

    return measure(model, optimizer, (len(images) // 2, len(images)), step)


def test_a_linear_layer() -> None:
    found = measured(nn.Linear(20, 7, bias=False), torch.zeros(5, 20))
    # forwards 2 n i o, and for the weights' gradient as much; none is asked for the input
    assert found.flops == 2 * (2 * 20 * 7)
    assert found.parameter_bytes == 20 * 7 * FLOAT
    assert found.held_bytes == 2 * 20 * 7 * FLOAT
    assert found.example_bytes == 20 * FLOAT


def test_a_convolution() -> None:
    conv = nn.Conv2d(3, 8, kernel_size=3, padding=1)
    found = measured(conv, torch.zeros(4, 3, 10, 10))
    assert found.flops == 2 * (2 * 10 * 10 * 8 * 3 * 9)
    assert found.parameter_bytes == (8 * 3 * 9 + 8) * FLOAT
    assert found.example_bytes == 3 * 10 * 10 * FLOAT


def test_a_small_network() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 10)
    )
    found = measured(network, torch.zeros(6, 1, 8, 8), momentum=0.9)
    conv, linear = 2 * 64 * 4 * 9, 2 * 4 * 64 * 10
    assert found.flops == 2 * conv + 3 * linear  # the linear layer also has an input gradient
    parameters = (4 * 9 + 4 + 4 * 64 * 10 + 10) * FLOAT
    assert found.parameter_bytes == parameters
    assert found.held_bytes == 3 * parameters  # parameters, gradients, momentum
    # the input, and what leaves the ReLU, which convolution and linear layer share
    assert found.example_bytes == (64 + 4 * 64) * FLOAT


def test_adam_holds_two_states() -> None:
    found = measured(nn.Linear(20, 7, bias=False), torch.zeros(5, 20), torch.optim.AdamW)
    assert found.held_bytes == 4 * 20 * 7 * FLOAT + FLOAT  # and its count of steps


def test_the_batch_does_not_matter() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten())
    few, many = (measured(network, torch.rand(n, 1, 8, 8)) for n in (2, 16))
    assert few == many


def test_autocast_keeps_smaller_activations_and_copies_of_weights() -> None:
    network = nn.Sequential(nn.Linear(64, 32, bias=False), nn.ReLU(), nn.Linear(32, 16, bias=False))
    full = measured(network, torch.rand(8, 64))
    with torch.autocast("cpu", torch.bfloat16):
        half = measured(network, torch.rand(8, 64))
    assert half.flops == full.flops
    assert full.example_bytes == (64 + 32) * 4
    assert half.example_bytes == (64 + 32) * 2  # the input as well is kept as it is multiplied
    # of the first layer no copy is kept: nobody asks for the gradient of the images
    assert half.held_bytes - full.held_bytes == 32 * 16 * 2


def test_a_tensor_that_two_layers_keep_counts_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 3, bias=False), nn.Linear(8, 3, bias=False)

        def forward(self, images: Tensor) -> Tensor:
            shared = images.flatten(1)
            return self.first(shared) + self.second(shared)

    assert measured(Twice(), torch.zeros(4, 2, 4)).example_bytes == 8 * FLOAT


def test_what_fits() -> None:
    found = Footprint(flops=1, parameter_bytes=100, held_bytes=300, example_bytes=40)
    assert found.memory(5) == 500
    assert found.traffic(5) == 2 * (500 + 100)
    assert found.largest_batch(500) == 5
    assert found.largest_batch(539) == 5
    assert found.largest_batch(340) == 1
    assert found.largest_batch(200) == 0


@pytest.mark.parametrize("size", [1, 3])
def test_the_largest_batch_is_the_largest(size: int) -> None:
    found = measured(nn.Linear(20, 7), torch.zeros(5, 20))
    limit = found.memory(size)
    assert found.largest_batch(limit) == size
    assert found.largest_batch(limit - 1) == size - 1
