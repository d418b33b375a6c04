"""Forward correction against enumeration of the labels that may be shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from clients.batch import Batch
from clients.objectives import Context, CrossEntropy, ForwardCorrected

T = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.25, 0.25, 0.5]], dtype=torch.float64)


def loss_of(logits: Tensor, labels: Tensor, confusion: Tensor | None) -> Tensor:
    batch = Batch(torch.zeros(len(labels), 1), labels)
    context = Context(torch.ones(3), confusion=confusion)
    return ForwardCorrected().loss(lambda _: logits, batch, context)  # type: ignore[arg-type]


def test_the_loss_is_that_of_the_label_shown() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((9, 3)), rng.integers(3, size=9)
    total = 0.0
    for z, shown in zip(logits, labels, strict=True):
        p = np.exp(z) / np.exp(z).sum()
        total -= np.log(sum(p[c] * float(T[c, shown]) for c in range(3)))
    found = loss_of(torch.from_numpy(logits), torch.from_numpy(labels), T)
    assert float(found) == pytest.approx(total / 9, rel=1e-12)


def test_labels_that_were_not_touched_cost_the_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    labels = torch.arange(9) % 3
    batch = Batch(torch.zeros(9, 1), labels)
    plain = CrossEntropy().loss(lambda _: logits, batch, Context(torch.ones(3)))  # type: ignore[arg-type]
    for confusion in (None, torch.eye(3)):
        torch.testing.assert_close(loss_of(logits, labels, confusion), plain, rtol=1e-14, atol=0)


def test_in_expectation_over_labels_shown_the_true_chances_are_optimal() -> None:
    p = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    shown = p @ T

    def slope(confusion: Tensor | None) -> Tensor:
        logits = p.log().requires_grad_()
        by_label = [loss_of(logits[None], torch.tensor([y]), confusion) for y in range(3)]
        (gradient,) = torch.autograd.grad((shown * torch.stack(by_label)).sum(), logits)
        return gradient

    torch.testing.assert_close(slope(T), torch.zeros_like(p), rtol=0, atol=1e-12)
    assert slope(None).abs().max() > 0.01


def test_a_label_that_nothing_can_show_has_a_finite_cost() -> None:
    never = torch.tensor([[1.0, 0.0, 0.0]] * 3)
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = loss_of(logits, torch.tensor([0, 2]), never)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()
