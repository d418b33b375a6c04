"""FedAdagrad, FedAdam and FedYogi against algorithm 2 of Reddi et al., line by line."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from strategies import FedAdagrad, FedAdam, FedYogi, ServerOptimizer, WeightedMean
from strategies.server_optimizer import WithServerOptimizer

RULES = [
    FedAdagrad(learning_rate=0.1, tau=0.01),
    FedAdagrad(learning_rate=0.1, tau=0.01, beta1=0.6),
    FedAdam(learning_rate=0.03, tau=0.2, beta1=0.8, beta2=0.95),
    FedYogi(learning_rate=0.03, tau=1e-3, beta1=0.8, beta2=0.95),
]


def deltas(rounds: int = 12) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rounds, generator=generator, dtype=torch.float64).tolist()


def transcribed(rule: ServerOptimizer, deltas: list[float]) -> list[float]:
    """Return the x_t of algorithm 2 for one coordinate."""
    eta, beta1, tau = rule.learning_rate, rule.beta1, rule.tau
    x, m, v, path = 0.0, 0.0, tau**2, []
    for delta in deltas:
        m = beta1 * m + (1 - beta1) * delta
        match rule.kind:
            case "fed_adagrad":
                v = v + delta**2
            case "fed_yogi":
                v = v - (1 - rule.beta2) * delta**2 * math.copysign(1, v - delta**2)
            case "fed_adam":
                v = rule.beta2 * v + (1 - rule.beta2) * delta**2
        x = x + eta * m / (math.sqrt(v) + tau)
        path.append(x)
    return path


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_follows_the_published_algorithm(rule: ServerOptimizer) -> None:
    x = {"w": torch.zeros(2, dtype=torch.float64)}
    state, path = rule.init(x), []
    for delta in deltas():
        step, state = rule.step({"w": torch.tensor([delta, -delta], dtype=torch.float64)}, state)
        x = {"w": x["w"] + step["w"]}
        path.append(x["w"].tolist())
    expected = transcribed(rule, deltas())
    assert [a for a, _ in path] == pytest.approx(expected, rel=1e-12)
    assert [-b for _, b in path] == pytest.approx(expected, rel=1e-12)


def test_has_no_bias_correction_unlike_torchs_adam() -> None:
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w], lr=1.0, betas=(0.9, 0.96), eps=1e-9)
    w.grad = -torch.ones_like(w)
    adam.step()
    rule = FedAdam(learning_rate=1.0, tau=1e-9, beta1=0.9, beta2=0.96)
    step, _ = rule.step({"w": -w.grad}, rule.init({"w": w.detach()}))
    assert float(w.detach()) == pytest.approx(1.0)
    assert float(step["w"]) == pytest.approx(0.1 / math.sqrt(0.04))  # (1 - beta1) / root of v


def test_a_step_of_adam_after_many_alike_has_the_length_of_the_rate() -> None:
    rule = FedAdam(learning_rate=0.5)
    state = rule.init({"w": torch.zeros(2)})
    for _ in range(3000):
        step, state = rule.step({"w": torch.tensor([8.0, -3.0])}, state)
    torch.testing.assert_close(step["w"], torch.tensor([0.5, -0.5]), rtol=1e-3, atol=0)


def test_small_updates_keep_their_digits() -> None:
    rule = FedAdagrad(learning_rate=1.0, tau=1e-12)
    step, _ = rule.step({"w": torch.full((1,), 1e-25)}, rule.init({"w": torch.zeros(1)}))
    assert float(step["w"]) == pytest.approx(1e-25 / 2e-12, rel=1e-6)


def test_stands_behind_a_strategy() -> None:
    strategy = WithServerOptimizer(strategy=WeightedMean(), optimizer=RULES[2])
    updates = {"w": torch.tensor([[1.0], [4.0]], dtype=torch.float64)}
    counts = torch.tensor([2.0, 1.0], dtype=torch.float64)
    found, state = strategy.aggregate(updates, counts, strategy.init({"w": torch.zeros(1)}, 2))
    assert float(found["w"]) == pytest.approx(transcribed(RULES[2], [2.0])[0], rel=1e-12)
    assert set(state["optimizer"]) == {"m", "v"}
    assert strategy.model_dump()["optimizer"]["kind"] == "fed_adam"


@pytest.mark.parametrize(
    "settings", [{"tau": 0.0}, {"learning_rate": 0.0}, {"beta1": 1.0}, {"beta2": 1.0}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        FedYogi.model_validate(settings)
