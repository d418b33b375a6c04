"""Updates are formed and added exactly, and let go of where the rule allows it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import MetricRecord, RecordDict

from fedsim.errors import RunError
from fedsim.flower import updates
from fedsim.flower.updates import Gathering, Stacked, Sum
from fedsim.flower.wire import Array, to_arrays
from strategies import (
    FedNova,
    PrincipalGradient,
    Scaffold,
    ServerSgd,
    Strategy,
    WeightedMean,
    WithServerOptimizer,
)

CPU = torch.device("cpu")
SIZES = (37, 1, 250)


def model(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(5, 7, generator=generator),
        "scale": torch.randn((), generator=generator),
        "none": torch.zeros(0, 3),
        "count": torch.tensor(seed * 3),
    }


START, LOCAL = model(0), [model(1 + site) for site in range(len(SIZES))]
NAMES = ("weight", "scale", "none")


def content(site: int) -> RecordDict:
    metrics = MetricRecord({"num-examples": SIZES[site], "num-steps": site + 2})
    return RecordDict({"arrays": to_arrays(LOCAL[site]), "metrics": metrics})


def gathered(strategy: Strategy) -> Gathering:
    found = Gathering(strategy, to_arrays(START), {"count"}, "num-examples", CPU)
    for site in range(len(SIZES)):
        found.take(content(site))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_sum_against_a_direct_one(name: str) -> None:
    total = Sum([name], to_arrays(START), CPU)
    for local, size in zip(LOCAL, SIZES, strict=True):
        total.add(to_arrays(local), size)
    expected = sum(
        n * (local[name].double() - START[name].double())
        for n, local in zip(SIZES, LOCAL, strict=True)
    )
    mean = total.mean(sum(SIZES))[name]
    torch.testing.assert_close(mean, torch.as_tensor(expected) / sum(SIZES), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("coefficients", [(49.0,), (0.0, 49.0), (0.0, 49.0, 0.0)])
def test_the_mean_of_one_update_is_that_update(coefficients: tuple[float, ...]) -> None:
    total = Sum(NAMES, to_arrays(START), CPU)
    for local, coefficient in zip(LOCAL, coefficients, strict=False):
        total.add(to_arrays(local), coefficient)
    own = LOCAL[coefficients.index(49.0)]
    for name, mean in total.mean(49.0).items():
        assert torch.equal(mean, own[name].double() - START[name].double())


def test_updates_are_added_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Sum(["weight"], to_arrays(START), CPU)
    whole.add(to_arrays(LOCAL[0]), 2.0)
    monkeypatch.setattr(updates, "CHUNK", 4)
    pieces = Sum(["weight"], to_arrays(START), CPU)
    pieces.add(to_arrays(LOCAL[0]), 2.0)
    assert torch.equal(whole.mean(3.0)["weight"], pieces.mean(3.0)["weight"])


def test_another_device_computes_the_same() -> None:
    local, start = Array(LOCAL[0]["weight"]), Array(START["weight"])
    here, there = (torch.ones(5, 7, dtype=torch.float64) for _ in range(2))
    updates._add_on_cpu(here, local, 0.75)
    updates._add_on_device(there, local, 0.75)
    torch.testing.assert_close(here, there, rtol=1e-15, atol=0)
    updates._put(here, local, start)
    updates._put_on_device(there, local, start)
    assert torch.equal(here, there)


def test_stacks_are_local_minus_global() -> None:
    stacked = Stacked(NAMES, to_arrays(START), [to_arrays(local) for local in LOCAL], CPU)
    assert list(stacked) == list(NAMES)
    for name in NAMES:
        expected = np.stack([local[name].double() - START[name].double() for local in LOCAL])
        np.testing.assert_array_equal(stacked[name].numpy(), expected)


@pytest.mark.parametrize(
    "strategy",
    [
        WeightedMean(),
        WeightedMean(weights="uniform"),
        WithServerOptimizer(strategy=WeightedMean(), optimizer=ServerSgd(momentum=0.5)),
    ],
    ids=repr,
)
def test_what_comes_one_by_one_is_aggregated_as_if_it_came_together(strategy: Strategy) -> None:
    parameters = {name: START[name] for name in NAMES}
    stacks = Stacked(NAMES, to_arrays(START), [to_arrays(local) for local in LOCAL], CPU)
    sizes = torch.tensor(SIZES, dtype=torch.float64)
    expected, _ = strategy.aggregate(stacks, sizes, strategy.init(parameters, len(sizes)))
    found, _ = gathered(strategy).aggregate(strategy.init(parameters, len(sizes)))
    for name in NAMES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-14, atol=1e-16)


def test_buffers_become_their_mean_by_examples() -> None:
    mean = gathered(PrincipalGradient()).mean_of_buffers()
    expected = np.average([float(local["count"]) for local in LOCAL], weights=SIZES)
    assert mean["count"].item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("strategy", "num_held"), [(WeightedMean(), 1), (PrincipalGradient(), len(SIZES))]
)
def test_a_mean_holds_one_reply_at_a_time(strategy: Strategy, num_held: int) -> None:
    gathering = Gathering(strategy, to_arrays(START), {"count"}, "num-examples", CPU)
    gone: list[int] = []
    most = 0
    for site in range(len(SIZES)):
        reply = content(site)
        weakref.finalize(reply["arrays"], gone.append, site)
        gathering.take(reply)
        gc.collect()
        most = max(most, site + 1 - len(gone))
        del reply
    assert most == num_held


def test_a_strategy_is_given_what_it_asks_for() -> None:
    seen: list[Any] = []

    class PerStep(WeightedMean):
        @property
        def reports(self) -> tuple[str, ...]:
            return ("num-steps",)

        def coefficient(self, weight: float, reported: Any) -> float:
            seen.append(reported)
            return weight / float(reported["num-steps"])

        def divisor(self, weights: torch.Tensor, reported: Any) -> float:
            return float((weights / reported["num-steps"]).sum())

    found, _ = gathered(PerStep()).aggregate({})
    assert seen == [{"num-steps": 2.0}, {"num-steps": 3.0}, {"num-steps": 4.0}]
    shares = np.array(SIZES) / [2, 3, 4]
    rows = [(local["weight"].double() - START["weight"].double()).numpy() for local in LOCAL]
    expected = np.average(rows, axis=0, weights=shares)
    np.testing.assert_allclose(found["weight"].numpy(), expected, rtol=1e-13)


def test_a_reply_without_what_a_strategy_asks_for_is_told() -> None:
    gathering = Gathering(FedNova(), to_arrays(START), {"count"}, "num-examples", CPU)
    metrics = MetricRecord({"num-examples": 3})
    reply = RecordDict({"arrays": to_arrays(LOCAL[0]), "metrics": metrics})
    with pytest.raises(RunError, match=r"'fed_nova' needs 'num-steps' .* a site sent num-examples"):
        gathering.take(reply)


@pytest.mark.parametrize("rule", [WeightedMean, PrincipalGradient])
def test_a_rule_of_its_own_sees_all_updates(rule: Callable[..., Strategy]) -> None:
    class First(rule):  # type: ignore[misc, valid-type]
        def aggregate(self, updates: Any, weights: Any, state: Any, *_: Any) -> Any:
            return {name: updates[name][0] for name in updates}, state

    found, _ = gathered(First()).aggregate({})
    assert torch.equal(found["weight"], LOCAL[0]["weight"].double() - START["weight"].double())


BESIDE = {name: LOCAL[0][name] for name in NAMES}


def beside(site: int, **records: dict[str, torch.Tensor]) -> RecordDict:
    arrays = {name: to_arrays(tensors) for name, tensors in records.items()}
    return RecordDict({**content(site), **arrays})


def test_what_is_collected_beside_the_models_is_averaged_as_it_is() -> None:
    strategy = Scaffold()
    found = Gathering(strategy, to_arrays(START), {"count"}, "num-examples", CPU)
    for site, local in enumerate(LOCAL):
        found.take(beside(site, control={name: local[name] for name in NAMES}))
    zeros = {name: torch.zeros_like(START[name]) for name in NAMES}
    aggregate, state = found.aggregate(strategy.init(zeros, num_sites=6))
    for name in NAMES:
        mean = torch.stack([local[name].double() for local in LOCAL]).mean(0)
        torch.testing.assert_close(aggregate[name], mean - START[name].double(), rtol=1e-12, atol=0)
        torch.testing.assert_close(state["control"][name], (mean / 2).float())


@pytest.mark.parametrize(
    ("strategy", "records"),
    [
        (WeightedMean(), {"control": BESIDE}),
        (Scaffold(), {}),
        (Scaffold(), {"control": BESIDE, "prototypes": BESIDE}),
        (Scaffold(), {"control": {"weight": LOCAL[0]["weight"]}}),
        (Scaffold(), {"control": {**BESIDE, "more": torch.zeros(1)}}),
    ],
    ids=["undeclared", "missing", "one too many", "a part", "more"],
)
def test_only_what_the_strategy_declares_is_taken(
    strategy: Strategy, records: dict[str, dict[str, torch.Tensor]]
) -> None:
    found = Gathering(strategy, to_arrays(START), {"count"}, "num-examples", CPU)
    with pytest.raises(RunError, match=r"takes a model and .* beside it"):
        found.take(beside(0, **records))
