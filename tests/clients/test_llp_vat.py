"""Virtual adversarial training: directions, what it leaves alone, and sites without labels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clients.batch import UNKNOWN, Bags, Batch
from clients.objectives import Bag, Context, LlpVat

CONTEXT = Context(torch.ones(3))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(150, 3)
    )


def images(num: int = 8) -> Tensor:
    return torch.randn(num, 1, 5, 5, generator=torch.Generator().manual_seed(1))


def in_bags() -> Batch:
    bags = Bags(torch.arange(2).repeat_interleave(4), torch.tensor([[0.5, 0.25, 0.25], [0, 0, 1]]))
    return Batch(images(), torch.full((8,), UNKNOWN), bags)


def roughness(objective: LlpVat, model: Any, shown: Tensor, seed: int = 0) -> float:
    torch.manual_seed(seed)
    return float(objective.roughness(model, shown).detach())


def test_two_classes_of_a_linear_network_have_a_direction_in_closed_form() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 2)).double()
    x = images(1).double()
    w = (model[1].weight[1] - model[1].weight[0]).detach()
    log_p = model(x).log_softmax(1).detach()[0]

    def divergence(sign: int) -> float:
        moved = (model(x + sign * 0.7 * (w / w.norm()).view_as(x))).log_softmax(1).detach()[0]
        return float((log_p.exp() * (log_p - moved)).sum())

    found = [roughness(LlpVat(radius=0.7), model, x, seed) for seed in range(8)]
    nearest = [min(divergence(1), divergence(-1), key=lambda d: abs(d - f)) for f in found]
    assert found == pytest.approx(nearest, rel=1e-9)
    assert len(set(nearest)) == 2


def test_its_direction_raises_the_divergence_more_than_random_ones() -> None:
    model = network()

    def total(objective: LlpVat) -> float:
        return sum(roughness(objective, model, images(), seed) for seed in range(6))

    random, one = (total(LlpVat(num_power_iterations=num)) for num in (0, 1))
    assert one > 3 * random
    near_one, near_three = (total(LlpVat(probe=0.1, num_power_iterations=num)) for num in (1, 3))
    assert near_three > near_one


def test_a_site_without_labels_learns_from_the_divergence_alone() -> None:
    model, objective = network(), LlpVat(weight=0.3)
    torch.manual_seed(2)
    loss = objective.loss(model, Batch(images(), torch.full((8,), UNKNOWN)), CONTEXT)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(0.3 * roughness(objective, model, images(), 2))
    assert any(p.grad.abs().max() > 1e-6 for p in model.parameters() if p.grad is not None)


def test_the_bag_loss_is_added() -> None:
    model, batch = network(), in_bags()
    plain = float(Bag().loss(model, batch, CONTEXT).detach())
    added = 0.05 * roughness(LlpVat(), model, batch.images, 4)
    torch.manual_seed(4)
    assert float(LlpVat().loss(model, batch, CONTEXT).detach()) == pytest.approx(plain + added)


def test_statistics_and_gradients_are_those_of_one_look_at_the_batch() -> None:
    once, thrice = network(), network()
    Bag().loss(once, in_bags(), CONTEXT)
    loss = LlpVat().loss(thrice, in_bags(), CONTEXT)
    assert all(parameter.grad is None for parameter in thrice.parameters())
    for (name, expected), (_, found) in zip(
        once.state_dict().items(), thrice.state_dict().items(), strict=True
    ):
        assert torch.equal(found, expected), name
    assert int(thrice[1].num_batches_tracked) == 1
    loss.backward()  # type: ignore[no-untyped-call]


def test_the_batch_itself_is_what_the_network_saw_last() -> None:
    model, seen = network(), []
    model.register_forward_pre_hook(lambda _, shown: seen.append(shown[0]))
    LlpVat(num_power_iterations=2).loss(model, in_bags(), CONTEXT)
    assert len(seen) == 5
    assert torch.equal(seen[-1], images())
    assert not torch.equal(seen[-2], images())


def test_directions_come_from_the_default_generator() -> None:
    model = network()
    assert roughness(LlpVat(), model, images(), 1) == roughness(LlpVat(), model, images(), 1)
    assert roughness(LlpVat(), model, images(), 1) != roughness(LlpVat(), model, images(), 2)


def test_a_network_that_cannot_be_moved_is_smooth() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(25, 3))
    nn.init.zeros_(flat[1].weight)
    loss = LlpVat().loss(flat, in_bags(), CONTEXT)
    loss.backward()  # type: ignore[no-untyped-call]
    assert roughness(LlpVat(), flat, images()) == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in flat.parameters())


def test_the_weight_rises_with_the_run() -> None:
    objective = LlpVat(weight=2.0, ramp=0.5)
    assert objective.weight_at(0.0) == pytest.approx(2 * math.exp(-5))
    assert objective.weight_at(0.25) == pytest.approx(2 * math.exp(-1.25))
    assert objective.weight_at(0.5) == objective.weight_at(0.9) == 2.0
    assert LlpVat(weight=2.0).weight_at(0.0) == 2.0
