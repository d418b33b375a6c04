"""The server puts replies in order, applies what the scenario says and records what happened."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message

from fedsim.engines.inline import InlineGrid
from fedsim.errors import RunError
from fedsim.flower import client_app
from fedsim.flower.local_training import train
from fedsim.flower.loss_decomposition import LossDecomposition
from fedsim.flower.network import Network
from fedsim.flower.strategy import StrategyAdapter, build, rounded_like
from fedsim.flower.workplace import Workplace
from fedsim.models import Mlp
from fedsim.records import RunRecord
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import run
from strategies import ServerSgd, WithServerOptimizer

Make = Callable[..., Scenario]


class Unruly(InlineGrid):
    """A grid that knows its nodes in another order and answers in a random one."""

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes backwards."""
        return reversed(list(super().get_node_ids()))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return the replies in an order that nobody knows."""
        shuffled = list(messages)
        random.shuffle(shuffled)
        return reversed(list(super().send_and_receive(shuffled)))


def bits(record: RunRecord) -> list[bytes]:
    files = [record.folder / "rounds.jsonl", record.folder / "metrics.jsonl"]
    return [f.read_bytes() for f in (*files, *sorted((record.folder / "checkpoints").iterdir()))]


@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "weighted_mean"},
        {"kind": "principal_gradient"},
        {"kind": "flower", "name": "FedAvg"},
    ],
    ids=["weighted_mean", "principal_gradient", "flower"],
)
def test_arrival_order_and_node_ids_change_no_bit(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: dict[str, Any]
) -> None:
    scenario = tiny(
        strategy=strategy,
        population={"num_sites": 6, "partition": {"kind": "dirichlet", "alpha": 1.0}},
        cohort={"kind": "fixed_size", "num_sites": 5},
    )
    orderly = run(scenario, out=tmp_path, name="orderly", device="cpu")
    monkeypatch.setattr("fedsim.execution.InlineGrid", Unruly)
    unruly = run(scenario, out=tmp_path, name="unruly", device="cpu")
    assert bits(orderly) == bits(unruly)


def test_train_loss_is_the_mean_over_examples(tiny: Make, tmp_path: Path) -> None:
    for row in run(tiny(), out=tmp_path, device="cpu").rounds:
        losses, sizes = row["site_train_loss"], row["num_examples"]
        assert len({*sizes.values()}) > 1
        mean = np.average([losses[s] for s in sizes], weights=list(sizes.values()))
        assert row["train_loss"] == pytest.approx(mean, rel=1e-12)


def test_the_other_positive_class_swaps_sensitivity_and_specificity(
    tiny: Make, tmp_path: Path
) -> None:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120}
    metrics = {"metrics": ["sensitivity", "specificity"], "select_by": "sensitivity"}
    values = {}
    for positive in (0, 1):
        data = {"source": source, "task": "binary", "positive_class": positive}
        record = run(
            tiny(data=data, evaluation=metrics), out=tmp_path, name=f"p{positive}", device="cpu"
        )
        values[positive] = [row["value"] for row in record.metrics]
    assert values[0][0::2] == values[1][1::2]
    assert values[0][1::2] == values[1][0::2]
    assert values[0] != values[1]


def test_a_server_optimizer_wraps_the_strategy(tiny: Make) -> None:
    scenario = tiny(server_optimizer={"kind": "sgd", "learning_rate": 0.5, "momentum": 0.9})
    strategy = build(scenario, buffers={"b"})
    assert isinstance(strategy, StrategyAdapter)
    assert strategy.buffers == {"b"}
    assert isinstance(strategy.strategy, WithServerOptimizer)
    assert strategy.strategy.optimizer == ServerSgd(learning_rate=0.5, momentum=0.9)


def test_what_flower_averaged_gets_its_dtype_and_shape_back() -> None:
    before = {"count": torch.tensor(3), "weight": torch.zeros(2, 3)}
    arrays = {
        "count": Array(np.array([3.6])),
        "weight": Array(np.full((2, 3), 0.5, dtype=np.float64)),
    }
    after = rounded_like(before, ArrayRecord(arrays))
    assert torch.equal(after["count"], torch.tensor(4))
    assert torch.equal(after["weight"], torch.full((2, 3), 0.5))


def test_the_lens_looks_at_training_images(tiny: Make) -> None:
    scenario = tiny()
    place = Workplace(scenario, open_population(scenario), torch.device("cpu"))
    lens = LossDecomposition(place)
    train = torch.cat([place.examples(site, "train").images for site in range(3)])
    for batch in (lens.pooled, *lens.local):
        for image in batch.images:
            assert (train == image).flatten(1).all(1).any()


@pytest.mark.parametrize("name", ["FedAvg", "FedMedian"])
def test_bytes_are_counted_although_a_strategy_empties_the_replies(
    tiny: Make, tmp_path: Path, name: str
) -> None:
    record = run(tiny(strategy={"kind": "flower", "name": name}), out=tmp_path, device="cpu")
    assert [row["bytes_up"] for row in record.rounds] == [
        row["bytes_down"] for row in record.rounds
    ]
    assert record.rounds[0]["bytes_up"] > 3 * 4 * 16 * 16 * 8


class Deaf(InlineGrid):
    """A grid that loses the last reply to every training."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return all replies but one."""
        replies = list(super().send_and_receive(messages))
        return replies[:-1] if replies[0].metadata.message_type == "train" else replies


def test_a_missing_reply_is_named(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.execution.InlineGrid", Deaf)
    with pytest.raises(RunError, match="no reply from site-02"):
        run(tiny(), out=tmp_path, device="cpu")


def test_the_models_buffers_are_told_to_the_strategy(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    plain = Mlp.build

    def with_buffer(self: Mlp, *sizes: int) -> torch.nn.Module:
        network = plain(self, *sizes)
        network.register_buffer("mood", torch.zeros(2))
        return network

    def note(scenario: Scenario, buffers: Any, *more: Any) -> Any:
        told.append(buffers)
        return build(scenario, buffers, *more)

    monkeypatch.setattr(Mlp, "build", with_buffer)
    monkeypatch.setattr("fedsim.execution.build", note)
    run(tiny(), out=tmp_path, device="cpu")
    assert told[-1] == {"mood"}


@pytest.mark.parametrize("num_failing", [1, 3])
def test_sites_that_fail_are_dropped_if_the_scenario_says_so(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_failing: int
) -> None:
    def fail(place: Workplace, site: int, round: int, *more: Any) -> Any:
        if round == 2 and site < num_failing:
            raise MemoryError("not enough")
        return train(place, site, round, *more)

    monkeypatch.setattr(client_app, "train", fail)
    with pytest.raises(RunError, match="round 2: site-00 failed to train: MemoryError: not enough"):
        run(tiny(), out=tmp_path, name="abort", device="cpu")
    record = run(tiny(on_client_failure="drop"), out=tmp_path, name="drop", device="cpu")
    names = ["site-00", "site-01", "site-02"]
    assert [row["dropped"] for row in record.rounds] == [[], names[:num_failing], []]
    assert [row["cohort"] for row in record.rounds] == [names, names[num_failing:], names]
    assert (record.rounds[1]["train_loss"] is None) == (num_failing == 3)
    assert "the round goes on without" in (record.folder / "log.txt").read_text()


def test_a_site_that_fails_to_evaluate_stops_the_run(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError("not enough")

    monkeypatch.setattr(Network, "predict", fail)
    with pytest.raises(RunError, match="round 0: site-00 failed to evaluate: MemoryError"):
        run(tiny(on_client_failure="drop"), out=tmp_path, device="cpu")
