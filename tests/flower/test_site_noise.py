"""Whole runs in which sites add noise to their own updates: local and distributed privacy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import dp_event

from fedsim.flower import client_app, local_training
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.privacy.balance import balance
from fedsim.privacy.ledger import entries
from fedsim.records import RunRecord, checkpoint
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import resume, run
from strategies.principal_gradient import debiased

Make = Callable[..., Scenario]
Model = dict[str, torch.Tensor]
DELTA = 1e-2
UNIFORM = {"kind": "weighted_mean", "weights": "uniform"}
FILES = ("ledger.jsonl", "rounds.jsonl", "metrics.jsonl")


@pytest.fixture
def noisy(tiny: Make) -> Make:
    """Return a function that makes a scenario with noise at its sites."""

    def make(kind: str, noise: float | str = 1.0, budget: Any = None, **more: Any) -> Scenario:
        mechanism = {"kind": kind, "noise_multiplier": noise, "clip_norm": 0.05}
        if kind == "distributed":
            mechanism["min_survivors"] = more.pop("min_survivors", 2)
        privacy = {"mechanism": mechanism, "delta": DELTA, "budget": budget}
        return tiny(privacy=privacy, **{"strategy": UNIFORM, **more})

    return make


def model(record: RunRecord, round: int) -> Model:
    found: Model = checkpoint.load(checkpoint.path_of(record.folder, round))["model"]
    return found


def moved(record: RunRecord, round: int = 1) -> torch.Tensor:
    """Return what a round added to the global model."""
    after, before = model(record, round), model(record, round - 1)
    return torch.cat([(after[n].double() - before[n].double()).ravel() for n in sorted(after)])


@pytest.mark.parametrize(("kind", "std"), [("local", 1.0), ("distributed", 1 / math.sqrt(2))])
def test_every_site_sends_a_clipped_update_with_its_noise(
    noisy: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, std: float
) -> None:
    sent: dict[float, list[torch.Tensor]] = {0.0: [], 1.0: []}
    noise = 0.0

    def train(workplace: Any, site: int, round: int, state: Any, *rest: Any) -> Any:
        trained = local_training.train(workplace, site, round, state, *rest)
        update = [(trained.state[n].double() - state[n].double()).ravel() for n in sorted(state)]
        sent[noise].append(torch.cat(update))
        return trained

    monkeypatch.setattr(client_app, "train", train)
    for noise in sent:
        run(noisy(kind, noise, rounds=1), out=tmp_path, name=f"{noise:g}", device="cpu")
    found = torch.stack(sent[1.0]) - torch.stack(sent[0.0])
    size = found.shape[1]
    assert found.std(dim=1).numpy() == pytest.approx(std * 0.05, rel=4 / math.sqrt(2 * size))
    assert np.abs(np.corrcoef(found.numpy()) - np.eye(3)).max() < 4 / math.sqrt(size)
    assert all(0 < float(update.norm()) <= 0.05 + 1e-6 for update in sent[0.0])


def test_a_local_release_is_its_sites_and_replaces_all_its_data(
    noisy: Make, tmp_path: Path
) -> None:
    cohort = {"kind": "poisson", "sampling_rate": 0.5}  # which the server sees: no amplification
    record = run(noisy("local", cohort=cohort, rounds=4), out=tmp_path, device="cpu")
    written = [entry for entry in entries(record.ledger) if entry.event is not None]
    assert {entry.event for entry in written} == {dp_event.GaussianDpEvent(0.5)}
    assert {(entry.unit, entry.relation, entry.num_units) for entry in written} == {
        ("site", "replace_one", 3)
    }
    for row in record.rounds:
        assert row["cohort"] == [e.site for e in written if e.round == row["round"]]


def test_a_strategy_that_asks_is_told_the_noise_in_each_update(
    noisy: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_out: list[float] = []

    def watched(K: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        taken_out.extend(noise.tolist())
        return debiased(K, noise)

    strategy = {"kind": "principal_gradient", "debias": True}
    optimizer = {"kind": "sgd", "momentum": 0.5}
    scenario = noisy("local", 3.0, rounds=2, strategy=strategy, server_optimizer=optimizer)
    monkeypatch.setattr("strategies.principal_gradient.debiased", watched)
    record = run(scenario, out=tmp_path, device="cpu", keep_every=1)
    layers = [tensor.numel() for tensor in model(record, 1).values() if tensor.numel() > 1]
    expected = [d * (3.0 * 0.05) ** 2 for d in layers for _ in range(3)]
    assert sorted(taken_out) == pytest.approx(sorted(expected))


def test_local_noise_that_is_solved_for_spends_the_budget_and_no_more(noisy: Make) -> None:
    scenario = noisy("local", "auto", {"epsilon": 8.0})
    found = balance(PrivateRounds.of(scenario, open_population(scenario)).planned(), DELTA)
    assert {7.9 < account.epsilon <= 8.0 for account in found.accounts} == {True}


@pytest.mark.parametrize("kind", ["local", "distributed"])
def test_a_crash_and_a_new_start_change_no_bit(
    noisy: Make, tmp_path: Path, broken: Callable[[Scenario, int], Path], kind: str
) -> None:
    whole = run(noisy(kind), out=tmp_path, name="whole", device="cpu")
    again = resume(broken(noisy(kind), 2))
    for name in FILES:
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert all(torch.equal(model(again, 3)[n], t) for n, t in model(whole, 3).items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "distributed"])
def test_workers_change_no_bit(noisy: Make, tmp_path: Path, kind: str) -> None:
    here = run(noisy(kind), out=tmp_path, name="here", device="cpu")
    there = run(noisy(kind), out=tmp_path, name="there", device="cpu", workers=2)
    for name in FILES:
        assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()


def test_a_sum_of_too_few_sites_is_not_released(
    noisy: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its noise would be less than what the ledger has."""

    def train(workplace: Any, site: int, round: int, *rest: Any) -> Any:
        if (site, round) in {(0, 1), (1, 2), (2, 2)}:
            raise ValueError("broken")
        return local_training.train(workplace, site, round, *rest)

    monkeypatch.setattr(client_app, "train", train)
    scenario = noisy("distributed", on_client_failure="drop")
    record = run(scenario, out=tmp_path, device="cpu", keep_every=1)
    assert [len(row["cohort"]) for row in record.rounds] == [2, 1, 3]
    assert [float(moved(record, round).norm()) > 0 for round in (1, 2, 3)] == [True, False, True]
    assert "too few sites answered" in (record.folder / "log.txt").read_text()
    assert len([entry for entry in entries(record.ledger) if entry.event]) == 3
