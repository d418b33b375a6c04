"""The likelihood of class counts against enumeration of all labellings."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from clients.batch import UNKNOWN, Bags, Batch
from clients.objectives import Context, CountLikelihood
from clients.objectives.count_likelihood import whole_counts


def loss_and_gradient(logits: Tensor, bags: Bags) -> tuple[float, Tensor]:
    given = logits.clone().requires_grad_()
    batch = Batch(torch.zeros(len(logits), 1), torch.full((len(logits),), UNKNOWN), bags)
    loss = CountLikelihood().loss(lambda _: given, batch, Context(torch.ones(logits.shape[1])))  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, given)
    return float(loss.detach()), gradient


def enumerated(logits: Tensor, bags: Bags, labels: Tensor) -> tuple[float, Tensor]:
    """Return the loss and its gradient from the chances of every labelling of every bag."""
    p, num_classes = logits.softmax(1), logits.shape[1]
    total, gradient = 0.0, torch.zeros_like(logits)
    for number in range(len(bags)):
        inside = (bags.of_example == number).nonzero().flatten()
        counts = labels[inside].bincount(minlength=num_classes)
        evidence, posterior = 0.0, torch.zeros(len(inside), num_classes, dtype=torch.float64)
        for labelling in product(range(num_classes), repeat=len(inside)):
            chosen = torch.tensor(labelling)
            if torch.equal(chosen.bincount(minlength=num_classes), counts):
                chance = float(p[inside, chosen].prod())
                evidence += chance
                posterior[torch.arange(len(inside)), chosen] += chance
        total -= np.log(evidence)
        gradient[inside] = p[inside] - posterior / evidence
    return total / len(logits), gradient / len(logits)


@pytest.mark.parametrize("num_classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_is_that_of_all_labellings(num_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    of_example = torch.from_numpy(rng.permutation(np.repeat(np.arange(5), [1, 5, 3, 4, 2])))
    labels = torch.from_numpy(rng.integers(num_classes, size=15))
    logits = torch.from_numpy(2 * rng.standard_normal((15, num_classes)))
    one_hot = torch.nn.functional.one_hot(labels, num_classes).double()
    bags = Bags(of_example, Bags(of_example, torch.zeros(5, 1)).means(one_hot))
    loss, gradient = loss_and_gradient(logits, bags)
    expected, its_gradient = enumerated(logits, bags, labels)
    assert loss == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(gradient, its_gradient, rtol=1e-10, atol=1e-12)


def test_large_bags_of_improbable_counts_stay_finite() -> None:
    logits = torch.tensor([[200.0, -200.0]]).repeat(100, 1)
    bags = Bags(torch.zeros(100, dtype=torch.int64), torch.tensor([[0.0, 1.0]]))
    loss, gradient = loss_and_gradient(logits, bags)
    assert loss == pytest.approx(400.0)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -1.0]]).repeat(100, 1) / 100)


def test_responses_of_any_bag_become_its_counts() -> None:
    for size in range(1, 65):
        counts = torch.tensor(
            [(a, b, size - a - b) for a in range(size + 1) for b in range(size - a + 1)]
        )
        bags = Bags(torch.arange(len(counts)).repeat_interleave(size), counts / size)
        assert torch.equal(whole_counts(bags), counts)


def test_noisy_responses_become_counts_that_are_possible() -> None:
    generator = torch.Generator().manual_seed(0)
    responses = torch.randn(500, 4, generator=generator)
    counts = whole_counts(Bags(torch.arange(500).repeat_interleave(7), responses))
    assert (counts >= 0).all()
    assert (counts.sum(1) == 7).all()
    nearly = torch.tensor([[0.62, 0.41], [1.3, -0.3]])
    rounded = whole_counts(Bags(torch.tensor([0] * 5 + [1] * 5), nearly))
    assert rounded.tolist() == [[3, 2], [5, 0]]


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_bags_beyond_the_limit_are_refused(num_classes: int) -> None:
    limit = CountLikelihood.largest_bag(num_classes)
    size = num_classes * (limit + 1)  # with `limit` + 1 of each class
    bags = Bags(torch.zeros(size, dtype=torch.int64), torch.ones(1, num_classes) / num_classes)
    with pytest.raises(ValueError, match=f"use bags of at most {limit}"):
        loss_and_gradient(torch.zeros(size, num_classes), bags)


def test_bags_within_the_limit_are_taken_whatever_their_counts() -> None:
    num_classes = 5
    size = CountLikelihood.largest_bag(num_classes)
    pure = torch.eye(num_classes)
    bags = Bags(torch.arange(num_classes).repeat_interleave(size), pure)
    loss, _ = loss_and_gradient(torch.zeros(size * num_classes, num_classes), bags)
    assert loss == pytest.approx(np.log(num_classes), rel=1e-5)
