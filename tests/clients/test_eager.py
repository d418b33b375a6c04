"""The optimisers take torch's steps, and leave torch's compiler alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from clients.eager import EagerAdamW, EagerSgd

Make = Callable[..., torch.optim.Optimizer]
TRAINING = """
import sys, torch
from clients.optimizer import Adam, Sgd
for kind in (Sgd(learning_rate=0.1, momentum=0.9), Adam(learning_rate=0.1)):
    network = torch.nn.Linear(3, 2)
    optimizer = kind.build(network.parameters(), 0.1)
    optimizer.zero_grad(set_to_none=True)
    network(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    assert network.weight.grad is not None
assert "torch._dynamo" not in sys.modules
"""


def after_steps(make: Make, **options: float) -> list[torch.Tensor]:
    torch.manual_seed(5)
    network = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = make(network.parameters(), lr=0.05, **options)
    for _ in range(4):
        optimizer.zero_grad()
        (network(torch.randn(6, 7)) ** 2).mean().backward()
        optimizer.step()
    return [weights.detach() for weights in network.parameters()]


@pytest.mark.parametrize(
    ("ours", "torchs", "options"),
    [
        (EagerSgd, torch.optim.SGD, {}),
        (EagerSgd, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
        (EagerAdamW, torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_steps_are_torchs_to_the_bit(ours: Make, torchs: Make, options: dict[str, float]) -> None:
    expected = after_steps(torchs, **options)
    assert all(map(torch.equal, after_steps(ours, **options), expected))


def test_training_does_not_load_the_compiler() -> None:
    subprocess.run([sys.executable, "-c", TRAINING], check=True)
