"""Optimisers and schedules against torch's own and against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, StepLR

from clients.optimizer import (
    BUILTIN,
    SCHEDULES,
    Adam,
    Constant,
    Cosine,
    Optimizer,
    Schedule,
    Sgd,
    Step,
)


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))


def walk(optimizer: torch.optim.Optimizer, w: Tensor, num_steps: int = 5) -> Tensor:
    """Return w after some steps down sum(w^4) / 4, of gradient w^3."""
    for _ in range(num_steps):
        optimizer.zero_grad()
        (w**4 / 4).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return w.detach()


def by_hand_sgd(rate: float, momentum: float, weight_decay: float) -> Tensor:
    w, velocity = parameter().detach(), torch.zeros(3, dtype=torch.float64)
    for _ in range(5):
        velocity = momentum * velocity + w**3 + weight_decay * w
        w = w - rate * velocity
    return w


def by_hand_adam(rate: float, weight_decay: float) -> Tensor:
    w = parameter().detach()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, 6):
        gradient = w**3
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        step = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        w = w * (1 - rate * weight_decay) - rate * step
    return w


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0, 0), (0.9, 0), (0, 0.3), (0.5, 0.1)])
def test_sgd_steps_as_written(momentum: float, weight_decay: float) -> None:
    asked = Sgd(learning_rate=1.0, momentum=momentum, weight_decay=weight_decay)
    w = parameter()
    found = walk(asked.build([w], 0.01), w)
    torch.testing.assert_close(found, by_hand_sgd(0.01, momentum, weight_decay))
    assert not torch.allclose(found, by_hand_sgd(0.01, momentum + 0.1, weight_decay))


@pytest.mark.parametrize("weight_decay", [0, 0.3])
def test_adam_decouples_its_weight_decay(weight_decay: float) -> None:
    asked = Adam(learning_rate=1.0, weight_decay=weight_decay)
    w, coupled = parameter(), parameter()
    found = walk(asked.build([w], 0.01), w)
    torch.testing.assert_close(found, by_hand_adam(0.01, weight_decay))
    walk(torch.optim.Adam([coupled], 0.01, weight_decay=weight_decay), coupled)
    assert torch.allclose(found, coupled.detach(), rtol=1e-9) == (weight_decay == 0)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [(Sgd(learning_rate=0.5), torch.optim.SGD), (Adam(learning_rate=0.5), torch.optim.AdamW)],
)
def test_the_rate_is_the_rounds_and_the_optimiser_a_fresh_one(
    asked: Optimizer, kind: type[torch.optim.Optimizer]
) -> None:
    w = parameter()
    first, second = asked.build(iter([w]), 0.125), asked.build([w], 0.25)
    assert isinstance(first, kind)
    assert [group["lr"] for group in first.param_groups] == [0.125]
    assert first.param_groups[0]["params"] == [w]
    walk(first, w, 1)
    assert not second.state


@pytest.mark.parametrize("kind", BUILTIN)
@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0},
        {"learning_rate": math.inf},
        {"learning_rate": math.nan},
        {"learning_rate": 1, "weight_decay": -1},
        {"learning_rate": 1, "momentum": 1},
        {"learning_rate": 1, "unknown": 1},
        {},
    ],
)
def test_wrong_settings_are_refused(kind: type[Optimizer], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(wrong)
    kind.model_validate({"learning_rate": 1})


def factors(schedule: Schedule, num_rounds: int) -> list[float]:
    return [schedule.factor(round, num_rounds) for round in range(1, num_rounds + 1)]


def torch_rates(build: Callable[[torch.optim.Optimizer], LRScheduler], num: int) -> list[float]:
    """Return torch's rates of some rounds, its optimiser having the rate 1."""
    optimizer = torch.optim.SGD([parameter()], 1.0)
    scheduler = build(optimizer)
    rates = []
    for _ in range(num):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("num_rounds", [1, 2, 10])
@pytest.mark.parametrize("final", [0.0, 0.2])
def test_cosine_is_torchs(num_rounds: int, final: float) -> None:
    expected = torch_rates(lambda o: CosineAnnealingLR(o, num_rounds, eta_min=final), num_rounds)
    assert factors(Cosine(final=final), num_rounds) == pytest.approx(expected)


@pytest.mark.parametrize("every", [1, 3, 20])
def test_step_is_torchs(every: int) -> None:
    expected = torch_rates(lambda o: StepLR(o, every, gamma=0.3), 10)
    assert factors(Step(every=every, gamma=0.3), 10) == pytest.approx(expected)


def test_constant_with_warm_up_is_torchs() -> None:
    expected = torch_rates(lambda o: LambdaLR(o, lambda epoch: min(1, (epoch + 1) / 5)), 10)
    assert factors(Constant(warmup_rounds=4), 10) == pytest.approx(expected)
    assert factors(Constant(warmup_rounds=3), 10) != pytest.approx(expected)


def test_schedules_by_hand() -> None:
    assert factors(Constant(), 3) == [1, 1, 1]
    assert factors(Cosine(), 4) == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])
    assert factors(Cosine(final=0.5), 2) == pytest.approx([1, 0.75])
    assert factors(Step(every=2, gamma=0.5), 6) == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("schedule", [Constant(), Cosine(final=0.1), Step(every=2)])
@pytest.mark.parametrize("warmup_rounds", [0, 1, 3, 7])
def test_a_warm_up_rises_evenly_and_delays_the_rest(schedule: Schedule, warmup_rounds: int) -> None:
    warm = schedule.model_copy(update={"warmup_rounds": warmup_rounds})
    found = factors(warm, 8)
    rise = [round / (warmup_rounds + 1) for round in range(1, warmup_rounds + 2)]
    assert found[: warmup_rounds + 1] == pytest.approx(rise)
    assert found[warmup_rounds:] == factors(schedule, 8 - warmup_rounds)


@pytest.mark.parametrize("schedule", [Constant(), Cosine(), Step(every=1)])
@pytest.mark.parametrize("warmup_rounds", [0, 2])
def test_every_rate_is_positive_and_at_most_the_full_one(
    schedule: Schedule, warmup_rounds: int
) -> None:
    warm = schedule.model_copy(update={"warmup_rounds": warmup_rounds})
    for num_rounds in (3, 50):
        assert all(0 < factor <= 1 for factor in factors(warm, num_rounds))
        assert max(factors(warm, num_rounds)) == 1


def test_kinds_tell_optimisers_and_schedules_apart() -> None:
    assert {kind.model_fields["kind"].default for kind in BUILTIN} == {"sgd", "adam"}
    assert {kind.model_fields["kind"].default for kind in SCHEDULES} == {
        "constant",
        "cosine",
        "step",
    }
