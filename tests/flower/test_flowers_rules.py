"""Rules that Flower has too agree with Flower's, on models without buffers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
)

import strategies as ours
from fedsim.engines.inline import InlineGrid
from fedsim.flower.strategy import StrategyAdapter
from fedsim.flower.wire import from_arrays, to_arrays
from strategies import Strategy, WeightedMean, WithServerOptimizer

pytestmark = pytest.mark.usefixtures("identity")
NUM_SITES = 7
Model = dict[str, torch.Tensor]


def model(seed: int) -> Model:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(6, 5, generator=generator, dtype=torch.float64),
        "bias": torch.randn(6, generator=generator, dtype=torch.float64),
    }


def app() -> ClientApp:
    """A client that moves its site's way: the last site is far off."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Any) -> Message:
        site = int(context.node_config["partition-id"])
        own, size = model(100 + site), 30.0 if site == NUM_SITES - 1 else 0.3
        start = from_arrays(message.content["arrays"])
        arrays = to_arrays({name: start[name] + size * own[name] for name in start})
        metrics = MetricRecord(
            {"num-examples": 10 * (site + 1), "start-loss": 0.3 + site, "train_loss": 0.3 + site}
        )
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def after(strategy: FedAvg, num_rounds: int) -> Model:
    grid = InlineGrid(app(), NUM_SITES)
    result = strategy.start(grid=grid, initial_arrays=to_arrays(model(0)), num_rounds=num_rounds)
    return from_arrays(result.arrays)


OPTIONS: dict[str, Any] = {"fraction_evaluate": 0.0}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (ours.Krum(num_byzantine=1), Krum(num_malicious_nodes=1, **OPTIONS)),
        (
            ours.Krum(num_byzantine=2, num_selected=4, weights="examples"),
            MultiKrum(num_malicious_nodes=2, num_nodes_to_select=4, **OPTIONS),
        ),
        (ours.CoordinateMedian(), FedMedian(**OPTIONS)),
        (ours.TrimmedMean(beta=0.2), FedTrimmedAvg(beta=0.2, **OPTIONS)),
        (
            ours.QFedAvg(q=0.7, learning_rate=0.1, weights="uniform"),
            QFedAvg(client_learning_rate=0.1, q=0.7, **OPTIONS),
        ),
    ],
    ids=lambda rule: getattr(rule, "kind", type(rule).__name__),
)
def test_agrees_with_flowers(mine: Strategy, theirs: FedAvg) -> None:
    expected = after(theirs, num_rounds=2)
    for name, found in after(StrategyAdapter(mine, **OPTIONS), num_rounds=2).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-10, atol=1e-10)
        assert not torch.allclose(found, model(0)[name])


@pytest.mark.parametrize("Theirs", [FedAdagrad, FedAdam, FedYogi])
def test_server_optimizers_are_flowers_from_the_same_start(Theirs: Any) -> None:
    """Flower starts at v = 0, and its FedAdam corrects the bias: both are taken out here."""
    beta1, beta2, tau = 0.8, 0.9, 0.05
    beta2s = {} if Theirs is FedAdagrad else {"beta2": beta2}
    optimizer = getattr(ours, Theirs.__name__)(learning_rate=0.1, beta1=beta1, tau=tau, **beta2s)

    def mine() -> FedAvg:
        strategy = WithServerOptimizer(strategy=WeightedMean(), optimizer=optimizer)
        return StrategyAdapter(strategy, **OPTIONS)

    def theirs() -> FedAvg:
        strategy = Theirs(eta=0.1, tau=tau, **OPTIONS)
        strategy.beta_1, strategy.beta_2 = beta1, beta2
        strategy.v_t = {name: torch.full_like(t, tau**2).numpy() for name, t in model(0).items()}
        return strategy

    def steps(make: Callable[[], FedAvg]) -> list[Model]:
        path = [model(0), *(after(make(), num_rounds) for num_rounds in (1, 2, 3))]
        return [{name: b[name] - a[name] for name in a} for a, b in pairwise(path)]

    for t, (found, step) in enumerate(zip(steps(mine), steps(theirs), strict=True), start=2):
        corrected = (1 - beta2**t) ** 0.5 / (1 - beta1**t) if Theirs is FedAdam else 1.0
        for name, value in found.items():
            torch.testing.assert_close(value, step[name] / corrected, rtol=1e-9, atol=1e-12)
