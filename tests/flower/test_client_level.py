"""Client-level privacy in whole runs: what the server releases, and what the ledger has of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import dp_event
from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from fedsim.errors import InputError
from fedsim.flower import client_app, local_training, wire
from fedsim.flower.cohort_grid import CohortGrid
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.flower.strategy import StrategyAdapter
from fedsim.privacy import private_mean
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.balance import balance
from fedsim.privacy.ledger import entries
from fedsim.privacy.private_mean import NoisyMean
from fedsim.records import RunRecord, checkpoint, read
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams
from fedsim.simulate import resume, run
from strategies import WeightedMean

Make = Callable[..., Scenario]
Model = dict[str, torch.Tensor]
DELTA = 1e-2
UNIFORM = {"kind": "weighted_mean", "weights": "uniform"}
GAUSSIAN = dp_event.GaussianDpEvent(1.0)
FILES = ("ledger.jsonl", "rounds.jsonl", "metrics.jsonl")


@pytest.fixture
def client_level(tiny: Make) -> Make:
    """Return a function that makes a scenario with noise at the server."""

    def make(noise: float | str = 1.0, budget: Any = None, more: Any = (), **sections: Any) -> Any:
        mechanism = {"kind": "client_level", "noise_multiplier": noise, **dict(more)}
        privacy = {"mechanism": mechanism, "delta": DELTA, "budget": budget}
        return tiny(privacy=privacy, **{"strategy": UNIFORM, **sections})

    return make


def model(record: RunRecord, round: int) -> Model:
    found: Model = checkpoint.load(checkpoint.path_of(record.folder, round))["model"]
    return found


def flat(found: Model) -> torch.Tensor:
    return torch.cat([found[name].double().ravel() for name in sorted(found)])


def moved(record: RunRecord, round: int = 1) -> torch.Tensor:
    """Return what a round added to the global model."""
    return flat(model(record, round)) - flat(model(record, round - 1))


def planned(scenario: Scenario) -> list[Any]:
    rounds = PrivateRounds.of(scenario, open_population(scenario))
    return [entry for entry in rounds.planned() if entry.event is not None]


def mu(mean: NoisyMean, num: int) -> float:
    """Return how far apart one update moves what is released, in standard deviations of its noise.

    Half of `num` sites each send ten times the bound along a coordinate of their own, through the
    adapter that a run uses. The other coordinates show the noise alone.
    """
    adapter = StrategyAdapter(WeightedMean(weights="uniform"), num_sites=num, private_mean=mean)
    start = wire.to_arrays({"w": torch.zeros(num)})
    adapter.configure_train(1, start, ConfigRecord(), CohortGrid(None, []))  # type: ignore[arg-type]
    replies = []
    for site in range(0, num, 2):
        local = torch.zeros(num)
        local[site] = 10.0
        metrics = MetricRecord({wire.NUM_EXAMPLES: 1})
        content = RecordDict({wire.ARRAYS: wire.to_arrays({"w": local}), wire.METRICS: metrics})
        replies.append(
            Message(content, reply_to=Message(RecordDict(), site + 1, MessageType.TRAIN))
        )
    arrays, _ = adapter.aggregate_train(1, replies)
    assert arrays is not None
    found = arrays["w"].numpy().astype(np.float64)
    there, absent = found[::2], found[1::2]
    return float((there.mean() - absent.mean()) / math.sqrt((there.var() + absent.var()) / 2))


@pytest.mark.usefixtures("identity")
def test_one_update_is_as_visible_as_the_ledger_says_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A test of mu = 1/z on the released statistic, through the adapter that a run uses."""
    num, z = 4000, 0.25
    error = 4 * math.sqrt((4 + 1 / (2 * z**2)) / num)

    def said(noise: float) -> bool:
        return abs(mu(NoisyMean(1.0, noise, num, Streams(8)), num) - 1 / z) < error

    assert said(z)
    assert not said(0.9 * z)
    monkeypatch.setattr(private_mean, "clip_factor", lambda length, clip_norm: 1.0)
    assert not said(z)


def test_what_the_server_adds_is_the_stated_noise_on_the_mean_of_clipped_updates(
    client_level: Make, tmp_path: Path
) -> None:
    """Runs with and without noise differ by that, over a model of some thousand numbers."""
    sections: dict[str, Any] = {"rounds": 1, "model": {"kind": "mlp", "widths": [16]}}
    noisy, silent = (
        run(
            client_level(noise, more={"clip_norm": 0.01}, **sections),
            out=tmp_path,
            name=f"{noise:g}",
            device="cpu",
            keep_every=1,
        )
        for noise in (2.0, 0.0)
    )
    noise = moved(noisy) - moved(silent)
    expected = 2.0 * 0.01 / 3
    assert float(noise.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * len(noise)))
    assert abs(float(noise.mean())) < 4 * expected / math.sqrt(len(noise))
    assert 0 < float(moved(silent).norm()) <= 0.01 + 1e-6


def test_without_noise_and_with_a_wide_bound_it_is_plain_averaging(
    client_level: Make, tiny: Make, tmp_path: Path
) -> None:
    private = run(
        client_level(0.0, more={"clip_norm": 1e6}), out=tmp_path, device="cpu", keep_every=1
    )
    plain = run(tiny(strategy=UNIFORM), out=tmp_path, name="plain", device="cpu", keep_every=1)
    assert torch.allclose(flat(model(private, 3)), flat(model(plain, 3)), atol=1e-6)
    found = balance(entries(private.ledger), DELTA)
    assert math.isinf(found.federation[0].bounds.high)


def test_every_round_is_in_the_ledger_once_and_costs_all_sites(
    client_level: Make, tmp_path: Path
) -> None:
    record = run(client_level(), out=tmp_path, device="cpu", keep_every=1)
    written = [entry for entry in entries(record.ledger) if entry.event is not None]
    assert written == planned(client_level())
    assert [(entry.round, entry.site, entry.num_units) for entry in written] == [
        (round, None, 3) for round in (1, 2, 3)
    ]
    assert {entry.event for entry in written} == {GAUSSIAN}
    (account,) = balance(entries(record.ledger), DELTA).accounts
    assert account.epsilon == epsilon({GAUSSIAN: 3}, DELTA)


def test_a_poisson_cohort_is_sampled_and_its_empty_rounds_release_noise(
    client_level: Make, tmp_path: Path
) -> None:
    cohort = {"kind": "poisson", "sampling_rate": 0.01}
    scenario = client_level(cohort=cohort, more={"clip_norm": 1e-3})
    record = run(scenario, out=tmp_path, device="cpu", keep_every=1)
    assert [row["cohort"] for row in record.rounds] == [[], [], []]
    expected = 1e-3 / (0.01 * 3)  # the divisor is q N, not how many came
    for round in (1, 2, 3):
        assert float(moved(record, round).std()) == pytest.approx(expected, rel=0.1)
    sampled = dp_event.PoissonSampledDpEvent(0.01, GAUSSIAN)
    written = [entry for entry in entries(record.ledger) if entry.event is not None]
    assert [(entry.site, entry.event) for entry in written] == [(None, sampled)] * 3
    assert written == planned(scenario)


def test_a_cohort_of_fixed_size_never_counts_as_a_poisson_sample(
    client_level: Make, tmp_path: Path
) -> None:
    scenario = client_level(cohort={"kind": "fixed_size", "num_sites": 2}, rounds=5)
    record = run(scenario, out=tmp_path, device="cpu", keep_every=1)
    written = [entry for entry in entries(record.ledger) if entry.event is not None]
    assert sorted(written, key=repr) == sorted(planned(scenario), key=repr)
    assert {entry.event for entry in written} == {GAUSSIAN}
    for row in record.rounds:
        assert row["cohort"] == [e.site for e in written if e.round == row["round"]]
    accounts = balance(entries(record.ledger), DELTA).accounts
    assert sum(account.num_rounds for account in accounts) == 2 * 5
    for account in accounts:
        assert account.epsilon == epsilon({GAUSSIAN: account.num_rounds}, DELTA)


def test_a_fixed_cohort_in_the_known_bad_setting_costs_what_is_true(client_level: Make) -> None:
    """10 of 100 sites, 100 rounds, sigma 2, delta 1e-3: as a Poisson sample it would be 1.54."""
    sections: dict[str, Any] = {
        "population": {"num_sites": 100, "partition": {"kind": "iid", "min_examples": 1}},
        "cohort": {"kind": "fixed_size", "num_sites": 10},
    }
    scenario = client_level(2.0, rounds=100, **sections)
    rounds = PrivateRounds(scenario, [f"site-{number}" for number in range(100)], lambda _: 100)
    event = dp_event.GaussianDpEvent(2.0)
    counts = [len(rounds.rounds_of(site)) for site in range(100)]
    assert sum(counts) == 1000
    assert {rounds.release(site).event() for site in range(100)} == {event}
    assert epsilon({event: max(counts)}, 1e-3) > epsilon({event: 10}, 1e-3) > 3 * 1.5438


def test_sites_that_do_not_answer_change_neither_noise_nor_divisor(
    client_level: Make, tmp_path: Path
) -> None:
    """Whether by an outage, by failing or by an update that is no number."""
    sections: dict[str, Any] = {"rounds": 1, "model": {"kind": "mlp", "widths": [16]}}
    record = run(
        client_level(population={"num_sites": 3, "outages": [{}]}, **sections),
        out=tmp_path,
        name="out",
        device="cpu",
        keep_every=1,
    )
    assert record.rounds[0]["cohort"] == []
    assert float(moved(record).std()) == pytest.approx(1 / 3, rel=0.1)
    assert [entry.round for entry in entries(record.ledger) if entry.event] == [1]


@pytest.mark.parametrize("how", ["fails", "is not finite"])
def test_a_site_that_fails_counts_as_zero(
    client_level: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    scenario = client_level(rounds=1, on_client_failure="drop", more={"clip_norm": 0.1})

    def train(workplace: Any, site: int, *rest: Any) -> Any:
        trained = local_training.train(workplace, site, *rest)
        if site == 1 and how == "fails":
            raise ValueError("broken")
        broken = {name: tensor * math.nan for name, tensor in trained.state.items()}
        return trained if site != 1 else local_training.Trained(broken, math.nan, 9, 1)

    whole = run(scenario, out=tmp_path, name="whole", device="cpu", keep_every=1)
    monkeypatch.setattr(client_app, "train", train)
    record = run(scenario, out=tmp_path, name="one-less", device="cpu", keep_every=1)
    difference = moved(whole) - moved(record)
    assert 0 < float(difference.norm()) <= 0.1 / 3 + 1e-6
    assert record.ledger == whole.ledger


@pytest.mark.parametrize("optimizer", [None, {"kind": "fed_adam", "learning_rate": 0.1}])
def test_a_crash_and_a_new_start_change_no_bit(
    client_level: Make, tmp_path: Path, broken: Callable[[Scenario, int], Path], optimizer: Any
) -> None:
    """Also where the bound adapts and the server has an optimiser: both are remembered."""
    adaptive = {"adaptive_clip": {}, "clip_norm": 0.1}
    sections = {"server_optimizer": optimizer, "population": {"num_sites": 3}}
    scenario = client_level(0.1, more=adaptive, **sections)
    whole = run(scenario, out=tmp_path, name="whole", device="cpu", keep_every=1)
    again = resume(broken(scenario, 2))
    for name in FILES:
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert torch.equal(flat(model(again, 3)), flat(model(whole, 3)))
    states = [checkpoint.load(checkpoint.path_of(r.folder, 3))["strategy"] for r in (whole, again)]
    bounds = [state["private_mean"]["clip_norm"] for state in states]
    assert bounds[0] == bounds[1] != 0.1


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["own", "flower"])
def test_engines_and_workers_change_no_bit(client_level: Make, tmp_path: Path, engine: Any) -> None:
    scenario = client_level(0.1, more={"adaptive_clip": {}})
    here = run(scenario, out=tmp_path, name="here", device="cpu", keep_every=1)
    there = run(
        scenario, out=tmp_path, name="there", device="cpu", keep_every=1, workers=2, engine=engine
    )
    for name in FILES:
        assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()
    assert torch.equal(flat(model(there, 3)), flat(model(here, 3)))


@pytest.mark.parametrize("on_budget", ["stop_site", "stop_run"])
def test_a_round_that_would_overspend_releases_nothing(
    client_level: Make, tmp_path: Path, on_budget: str
) -> None:
    limit = epsilon({GAUSSIAN: 2}, DELTA) + 1e-6
    scenario = client_level(budget={"epsilon": limit, "on_budget": on_budget})
    record = run(scenario, out=tmp_path, device="cpu", keep_every=1)
    assert [len(row["cohort"]) for row in record.rounds] == [3, 3, 0]
    assert [len(row["out_of_budget"]) for row in record.rounds] == [0, 0, 3]
    assert float(moved(record, 3).norm()) == 0
    assert len([entry for entry in entries(record.ledger) if entry.event]) == 2


def test_a_site_of_a_fixed_cohort_stops_alone(client_level: Make, tmp_path: Path) -> None:
    limit = epsilon({GAUSSIAN: 3}, DELTA) + 1e-6
    cohort = {"kind": "fixed_size", "num_sites": 2}
    sections: dict[str, Any] = {"cohort": cohort, "rounds": 8}
    budget = {"epsilon": limit, "on_budget": "stop_site"}
    record = run(client_level(budget=budget, **sections), out=tmp_path, device="cpu", keep_every=1)
    done = [len(row["cohort"]) for row in record.rounds]
    assert sum(done) <= 9
    for account in balance(entries(record.ledger), DELTA).accounts:
        assert account.num_rounds <= 3
    nobody = [row["round"] for row in record.rounds if not row["cohort"]]
    assert all(float(moved(record, round).norm()) == 0 for round in nobody)


@pytest.mark.parametrize(
    "cohort",
    [
        {"kind": "all"},
        {"kind": "poisson", "sampling_rate": 0.3},
        {"kind": "fixed_size", "num_sites": 2},
    ],
)
def test_noise_that_is_solved_for_spends_the_budget_and_no_more(
    client_level: Make, cohort: dict[str, Any]
) -> None:
    scenario = client_level("auto", budget={"epsilon": 3.0}, cohort=cohort, rounds=6)
    rounds = PrivateRounds.of(scenario, open_population(scenario))
    found = balance(rounds.planned(), DELTA)
    assert 2.9 < found.federation[0].bounds.high <= 3.0
    noises = {rounds.release(one).noise_multiplier for one in rounds.releasers([0, 1, 2])}
    assert len(noises) == 1


def test_too_few_sites_for_a_bound_that_adapts_are_told_before_training(
    client_level: Make, tmp_path: Path
) -> None:
    """Also where the noise, and so how many it takes, is known only when it is calibrated."""
    few = {"more": {"adaptive_clip": {}}, "population": {"num_sites": 8}}
    scenario = client_level("auto", {"epsilon": 3.0}, **few)
    with pytest.raises(InputError, match=r"adaptive_clip: with 8 sites .* use a fixed clip_norm"):
        run(scenario, out=tmp_path, device="cpu", keep_every=1)
    assert not list(tmp_path.iterdir())


def test_what_is_frozen_gets_no_noise(client_level: Make, tmp_path: Path) -> None:
    mlp = {"kind": "mlp", "widths": [8], "frozen": ["*bias"]}
    record = run(client_level(model=mlp, rounds=1), out=tmp_path, device="cpu", keep_every=1)
    before, after = model(record, 0), model(record, 1)
    assert [n for n in before if torch.equal(before[n], after[n])] == [
        name for name in before if name.endswith("bias")
    ]


def test_what_is_no_parameter_is_refused_by_name(tmp_path: Path, client_level: Make) -> None:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 33, "num_examples": 60}
    scenario = client_level(
        data={"source": source, "task": "binary"}, model={"kind": "monai", "name": "ResNet18"}
    )
    with pytest.raises(InputError, match=r"bn1.*normalisation: group"):
        run(scenario, out=tmp_path, device="cpu", keep_every=1)


def test_strict_keeps_losses_at_the_sites(client_level: Make, tmp_path: Path) -> None:
    scenario = client_level(evaluation={"loss_decomposition": False})
    strict = scenario.model_copy(
        update={"privacy": scenario.privacy.model_copy(update={"strict": True})}
    )
    record = run(strict, out=tmp_path, device="cpu", keep_every=1)
    assert {row["train_loss"] for row in record.rounds} == {None}
    assert not any("training loss" in entry.purpose for entry in entries(record.ledger))
    assert read(record.folder).finished
