"""A server optimizer is the optimizer of its name, behind any strategy."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from strategies import PrincipalGradient, ServerSgd, Strategy, WeightedMean, WithServerOptimizer


def rounds(count: int) -> list[dict[str, Tensor]]:
    """Return the updates of some rounds, each (site, *shape)."""
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "weight": torch.randn(3, 4, 2, generator=generator, dtype=torch.float64),
            "bias": torch.randn(3, 1, generator=generator, dtype=torch.float64),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("learning_rate", [0.3, 1.0])
def test_sgd_is_that_of_torch(learning_rate: float, momentum: float) -> None:
    examples = torch.tensor([5.0, 1.0, 2.0], dtype=torch.float64)
    strategy = WithServerOptimizer(
        strategy=WeightedMean(),
        optimizer=ServerSgd(learning_rate=learning_rate, momentum=momentum),
    )
    parameters = {"weight": torch.ones(4, 2).double(), "bias": torch.zeros(1).double()}
    theirs = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    sgd = torch.optim.SGD(theirs.values(), lr=learning_rate, momentum=momentum)

    state = strategy.init(parameters, num_sites=3)
    for updates in rounds(6):
        mean, _ = WeightedMean().aggregate(updates, examples, {})
        update, state = strategy.aggregate(updates, examples, state)
        for name in parameters:
            parameters[name] = parameters[name] + update[name]
            theirs[name].grad = -mean[name]
        sgd.step()
    for name, value in parameters.items():
        torch.testing.assert_close(value, theirs[name].detach(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("inner", [WeightedMean(), PrincipalGradient()])
def test_the_default_changes_nothing(inner: Strategy) -> None:
    strategy = WithServerOptimizer(strategy=inner, optimizer=ServerSgd())
    parameters = {name: stack[0] for name, stack in rounds(1)[0].items()}
    examples = torch.ones(3, dtype=torch.float64)
    state, inner_state = strategy.init(parameters, 3), inner.init(parameters, 3)
    for updates in rounds(3):
        update, state = strategy.aggregate(updates, examples, state)
        expected, inner_state = inner.aggregate(updates, examples, inner_state)
        assert all(torch.equal(update[name], expected[name]) for name in parameters)
    assert state["strategy"] == inner_state


def test_the_inner_strategy_is_written_whole() -> None:
    strategy = WithServerOptimizer(strategy=PrincipalGradient(keep=0.5), optimizer=ServerSgd())
    written = strategy.model_dump()["strategy"]
    assert written["kind"] == "principal_gradient"
    assert written["keep"] == 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"momentum": 1.0},
        {"momentum": -0.1},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ServerSgd.model_validate(settings)
