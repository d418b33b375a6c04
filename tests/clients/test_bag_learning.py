"""What losses on bags are worth: scikit-learn's digits, a small network, bags of random digits."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import one_hot

from clients.batch import Bags, Batch
from clients.objectives import (
    Bag,
    Context,
    CrossEntropy,
    EasyLlp,
    Instance,
    InterpolatedBag,
    Objective,
)

NUM_TRAINING, NUM_STEPS, SEEDS = 1344, 200, (0, 1)


@cache
def accuracy(objective: Objective, size: int) -> float:
    """Return the mean accuracy on digits that were held out."""
    return float(np.mean([_accuracy(objective, size, seed) for seed in SEEDS]))


def _accuracy(objective: Objective, size: int, seed: int) -> float:
    rng, found = np.random.default_rng(seed), load_digits()
    order = rng.permutation(len(found.target))
    x = torch.from_numpy(found.data[order] / 16).float()
    y = torch.from_numpy(found.target[order]).long()
    kept, labels = x[:NUM_TRAINING], y[:NUM_TRAINING]
    batch = Batch(kept, labels)
    if size > 1:
        of_example = torch.arange(NUM_TRAINING) // size  # the order is random
        responses = one_hot(labels, 10).float().view(-1, size, 10).mean(dim=1)
        batch = Batch(kept, torch.full_like(labels, -1), Bags(of_example, responses))
    context = Context(batch.class_counts(10))
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        objective.loss(model, batch, context).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    predicted = model(x[NUM_TRAINING:]).argmax(1)
    return float((predicted == y[NUM_TRAINING:]).float().mean())


@pytest.mark.slow
def test_the_bag_loss_needs_few_labels_less_than_supervision() -> None:
    supervised = accuracy(CrossEntropy(), 1)
    assert supervised > 0.95
    assert accuracy(Bag(), 16) >= supervised - 0.03
    assert accuracy(Bag(), 32) >= 0.90


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 32])
def test_the_nearer_to_the_instance_loss_the_worse_with_random_bags(size: int) -> None:
    bag, half, instance = (accuracy(InterpolatedBag(rho=rho), size) for rho in (0.0, 0.5, 1.0))
    assert bag > half + 0.02
    assert half > instance + 0.02


@pytest.mark.slow
def test_the_instance_loss_falls_with_the_bags() -> None:
    falling = [accuracy(Instance(), size) for size in (1, 4, 16, 64)]
    assert all(after < before - 0.03 for before, after in pairwise(falling))


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 16, 64])
def test_the_debiased_instance_loss_does_not_suit_a_network_that_can_fit_all(size: int) -> None:
    assert accuracy(EasyLlp(), size) < accuracy(Bag(), size) - 0.03
