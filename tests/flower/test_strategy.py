"""Our strategies in plain Flower, Flower's in a scenario, and what the adapter does to a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flwr.serverapp.strategy
import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, FedAvgM, FedMedian

from fedsim.engines.inline import InlineGrid
from fedsim.errors import RunError, ScenarioError
from fedsim.flower.strategy import StrategyAdapter, build, restore, snapshot
from fedsim.flower.wire import from_arrays, to_arrays
from fedsim.flower.workplace import Workplace
from fedsim.records.checkpoint import load, save
from fedsim.scenario import Scenario, open_population
from fedsim.scenario.flower_strategy import UNSUITED
from fedsim.simulate import run
from strategies import (
    BUILTIN,
    FedYogi,
    PrincipalGradient,
    ServerSgd,
    WeightedMean,
    WithServerOptimizer,
)

pytestmark = pytest.mark.usefixtures("identity")
Make = Callable[..., Scenario]
SIZES = (10, 30, 60)


def model(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 3, generator=generator),
        "bn.running_mean": torch.randn(4, generator=generator),
        "bn.num_batches_tracked": torch.tensor(seed * 7),
        "head.bias": torch.randn(1, generator=generator),
    }


def local_model(start: dict[str, torch.Tensor], site: int) -> dict[str, torch.Tensor]:
    """What a pretended client makes of the model it is sent."""
    noise = model(100 + site)
    return {name: t + (noise[name] if t.is_floating_point() else site) for name, t in start.items()}


def plain_app() -> ClientApp:
    """A ClientApp that knows nothing of fedsim."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Any) -> Message:
        site = int(context.node_config["partition-id"])
        start = {n: torch.tensor(a.numpy()) for n, a in message.content["arrays"].items()}
        arrays = {n: Array(t.numpy()) for n, t in local_model(start, site).items()}
        content = {
            "arrays": ArrayRecord(arrays),
            "metrics": MetricRecord(
                {
                    "num-examples": SIZES[site],
                    "num-steps": 1 + site,
                    "start-loss": 0.5 + site,
                    "loss": 1.0,
                }
            ),
            **{n: r for n, r in message.content.array_records.items() if n != "arrays"},
        }
        return Message(RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Any) -> Message:
        metrics = MetricRecord({"num-examples": 1, "loss": 1.0})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def start_in_flower(strategy: FedAvg, num_rounds: int = 1) -> dict[str, torch.Tensor]:
    """Use a strategy as any Flower app does."""
    result = strategy.start(
        grid=InlineGrid(plain_app(), len(SIZES)),
        initial_arrays=to_arrays(model(0)),
        num_rounds=num_rounds,
    )
    return from_arrays(result.arrays)


@pytest.mark.parametrize("num_rounds", [1, 3])
def test_weighted_mean_in_plain_flower_is_flowers_fedavg(num_rounds: int) -> None:
    ours = start_in_flower(StrategyAdapter(WeightedMean()), num_rounds)
    theirs = start_in_flower(FedAvg(), num_rounds)
    for name in ("conv.weight", "bn.running_mean", "head.bias"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-6)


def test_adapter_against_a_direct_sum() -> None:
    ours = start_in_flower(StrategyAdapter(WeightedMean()))
    locals_ = [local_model(model(0), site) for site in range(len(SIZES))]
    for name, tensor in ours.items():
        expected = sum(
            np.float64(n / sum(SIZES)) * local[name].double()
            for n, local in zip(SIZES, locals_, strict=True)
        )
        if not tensor.is_floating_point():
            expected = torch.as_tensor(expected).round()
        torch.testing.assert_close(tensor.double(), torch.as_tensor(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strategy", [part() for part in BUILTIN], ids=lambda s: s.kind)
def test_every_strategy_works_in_plain_flower(strategy: Any) -> None:
    after = start_in_flower(StrategyAdapter(strategy), num_rounds=2)
    for name, before in model(0).items():
        assert after[name].dtype == before.dtype
        assert after[name].shape == before.shape
        assert after[name].isfinite().all()
        assert not torch.equal(after[name], before)


def test_buffers_never_reach_the_strategy() -> None:
    seen: list[set[str]] = []

    class Spy(WeightedMean):
        def aggregate(self, updates: Any, weights: Any, state: Any) -> Any:
            seen.append(set(updates))
            return super().aggregate(updates, weights, state)

    start_in_flower(StrategyAdapter(Spy()))
    start_in_flower(StrategyAdapter(Spy(), buffers={"head.bias", "bn.num_batches_tracked"}))
    assert seen == [{"conv.weight", "head.bias"}, {"conv.weight", "bn.running_mean"}]


@pytest.mark.parametrize(
    "mistake",
    [
        lambda updates: {n: u.mean() for n, u in updates.items()},
        lambda updates: {"conv.weight": updates["conv.weight"][0]},
        lambda updates: {**{n: u[0] for n, u in updates.items()}, "more": torch.zeros(1)},
    ],
    ids=["scalars", "missing", "more"],
)
def test_a_strategy_that_returns_other_shapes_is_told(
    mistake: Callable[[Any], dict[str, torch.Tensor]],
) -> None:
    class Wrong(WeightedMean):
        def aggregate(self, updates: Any, weights: Any, state: Any) -> Any:
            return mistake(updates), state

    with pytest.raises(RunError, match="one update per parameter"):
        start_in_flower(StrategyAdapter(Wrong()))


def test_what_a_strategy_remembers_of_its_answer_stays() -> None:
    remembered: list[int] = []

    class Momentum(WeightedMean):
        def aggregate(self, updates: Any, weights: Any, state: Any) -> Any:
            remembered.append(len(state.get("last", {})))
            aggregate, _ = super().aggregate(updates, weights, {})
            return aggregate, {"last": aggregate}

    start_in_flower(StrategyAdapter(Momentum()), num_rounds=3)
    assert remembered == [0, 2, 2]


def test_principal_gradient_leaves_buffers_to_the_weighted_mean() -> None:
    fedld = start_in_flower(StrategyAdapter(PrincipalGradient()), num_rounds=2)
    fedavg = start_in_flower(StrategyAdapter(WeightedMean()), num_rounds=2)
    for name in ("bn.running_mean", "bn.num_batches_tracked"):
        torch.testing.assert_close(fedld[name], fedavg[name])
    assert not torch.allclose(fedld["conv.weight"], fedavg["conv.weight"])


def test_server_momentum_is_flowers_fedavgm() -> None:
    ours = WithServerOptimizer(
        strategy=WeightedMean(), optimizer=ServerSgd(learning_rate=0.5, momentum=0.9)
    )
    mine = start_in_flower(StrategyAdapter(ours), num_rounds=3)
    theirs = start_in_flower(FedAvgM(server_learning_rate=0.5, server_momentum=0.9), num_rounds=3)
    for name in ("conv.weight", "head.bias"):
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-5, atol=1e-6)


def final_model(scenario: Scenario, folder: Path) -> dict[str, torch.Tensor]:
    record = run(scenario, out=folder, device="cpu")
    state: dict[str, torch.Tensor] = load(max((record.folder / "checkpoints").iterdir()))["model"]
    return state


def test_flowers_fedavg_in_a_scenario_is_weighted_mean(tiny: Make, tmp_path: Path) -> None:
    ours = final_model(tiny(strategy={"kind": "weighted_mean"}), tmp_path)
    theirs = final_model(tiny(strategy={"kind": "flower", "name": "FedAvg"}), tmp_path)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-6)


def test_a_strategy_that_asks_for_losses_gets_them_in_a_run(tiny: Make, tmp_path: Path) -> None:
    fair = {"kind": "q_fed_avg", "q": 2.0, "learning_rate": 0.1}
    mean = final_model(tiny(), tmp_path)
    unfair = final_model(tiny(strategy={**fair, "q": 0.0}), tmp_path)
    for name, tensor in final_model(tiny(strategy=fair), tmp_path).items():
        torch.testing.assert_close(unfair[name], mean[name], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(tensor, mean[name], atol=1e-4)


FLOWERS = {
    name: {"client_learning_rate": 0.1} if name == "QFedAvg" else {}
    for name in sorted(flwr.serverapp.strategy.__all__)
    if issubclass(getattr(flwr.serverapp.strategy, name), FedAvg) and name not in UNSUITED
}


@pytest.mark.parametrize("name", FLOWERS)
def test_every_strategy_of_flower_runs_from_a_scenario(
    tiny: Make, tmp_path: Path, name: str
) -> None:
    strategy = {"kind": "flower", "name": name, "options": FLOWERS[name]}
    record = run(tiny(strategy=strategy, rounds=2), out=tmp_path, device="cpu")
    assert record.finished
    losses = [row["loss_decomposition"]["global_loss"] for row in record.rounds]
    assert losses[0] != losses[1]


def test_sites_add_the_proximal_term_that_fedprox_asks_for(tiny: Make, tmp_path: Path) -> None:
    client = {"steps": 3, "batch_size": 1000, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
    scenario = tiny(
        rounds=1,
        client=client,
        population={"num_sites": 1},
        strategy={"kind": "flower", "name": "FedProx", "options": {"proximal_mu": 2.0}},
    )
    after = final_model(scenario, tmp_path)
    place = Workplace(scenario, open_population(scenario), torch.device("cpu"))
    examples, start = place.examples(0, "train"), place.network.initial
    w = {name: t.clone() for name, t in start.items()}
    for _ in range(3):
        leaves = {name: t.requires_grad_() for name, t in w.items()}
        logits = torch.func.functional_call(place.network.module, leaves, examples.images)
        loss = torch.nn.functional.cross_entropy(logits, examples.labels)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        w = {
            name: (t - 0.1 * (g + 2.0 * (t - start[name]))).detach()
            for (name, t), g in zip(leaves.items(), gradients, strict=True)
        }
    without = final_model(scenario.model_copy(update={"strategy": WeightedMean()}), tmp_path)
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, w[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after["1.weight"], without["1.weight"], atol=1e-5)


def test_options_that_flower_refuses_are_told(tiny: Make) -> None:
    strategy = {"kind": "flower", "name": "FedAdam", "options": {"learning": 1}}
    with pytest.raises(ScenarioError, match=r"FedAdam says.*learning"):
        build(tiny(strategy=strategy), buffers=())


@pytest.mark.parametrize(
    "make",
    [
        lambda: StrategyAdapter(PrincipalGradient()),
        lambda: StrategyAdapter(WithServerOptimizer(strategy=WeightedMean(), optimizer=FedYogi())),
        lambda: FedAvgM(server_momentum=0.9, server_learning_rate=0.5),
        lambda: FedMedian(),
    ],
    ids=["ours", "with an optimizer", "FedAvgM", "FedMedian"],
)
def test_memory_survives_a_checkpoint(make: Callable[[], FedAvg], tmp_path: Path) -> None:
    def one_round(strategy: FedAvg, arrays: ArrayRecord, round: int) -> ArrayRecord:
        grid = InlineGrid(plain_app(), len(SIZES))
        messages = strategy.configure_train(round, arrays, ConfigRecord(), grid)
        ordered = sorted(messages, key=lambda m: m.metadata.dst_node_id)
        after, _ = strategy.aggregate_train(round, grid.send_and_receive(ordered))
        assert after is not None
        return after

    straight, first_half, second_half = make(), make(), make()
    arrays = one_round(straight, to_arrays(model(0)), 1)
    expected = from_arrays(one_round(straight, arrays, 2))
    arrays = one_round(first_half, to_arrays(model(0)), 1)
    save(tmp_path / "memory.safetensors", {"strategy": snapshot(first_half)})
    restore(second_half, load(tmp_path / "memory.safetensors")["strategy"])
    resumed = from_arrays(one_round(second_half, arrays, 2))
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name])
