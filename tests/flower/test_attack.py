"""Attacks through the real server: what it makes of a round, by hand; the same bits everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message, MetricRecord, RecordDict
from torch import Tensor

from fedsim.adversaries import Gaussian, InnerProduct, choose
from fedsim.engines.inline import flower_identity, repeatable
from fedsim.errors import DivergedError, RunError
from fedsim.flower import client_app, wire
from fedsim.flower.attack import Attack
from fedsim.flower.local_training import taught, train
from fedsim.flower.workplace import Workplace
from fedsim.records import RunRecord, checkpoint
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
BAD = "site-02"
SITES = {"num_sites": 4, "partition": {"kind": "dirichlet", "alpha": 1.0}}
UNIFORM = {"kind": "weighted_mean", "weights": "uniform"}
ATTACKS: dict[str, dict[str, Any]] = {
    "label_flip": {},
    "sign_flip": {"scale": 2.0},
    "scaled_update": {"factor": 4.0},
    "gaussian": {"std": 0.1},
    "inner_product": {"epsilon": 2.0},
    "little_is_enough": {"z": 1.5},
}


def attacked(tiny: Make, kind: str, population: Any = SITES, **sections: Any) -> Scenario:
    """Return a scenario in which a site attacks, from the round that `from_round` says."""
    part = {"kind": kind, "sites": [BAD], **ATTACKS[kind]}
    part["from_round"] = sections.pop("from_round", 1)
    return tiny(population={**population, "adversaries": [part]}, **sections)


def model_after(record: RunRecord, round: int) -> dict[str, Tensor]:
    model: dict[str, Tensor] = checkpoint.load(checkpoint.path_of(record.folder, round))["model"]
    return model


def vector(state: Any) -> Any:
    return np.concatenate([state[name].detach().double().numpy().ravel() for name in state])


def noise(scenario: Scenario, place: Workplace) -> Any:
    rng = np.random.default_rng(
        np.random.PCG64(Streams(scenario.seed).key("adversary", round=1, site=2))
    )
    shapes = [tuple(tensor.shape) for tensor in place.network.initial.values()]
    return np.concatenate([0.1 * rng.standard_normal(shape).ravel() for shape in shapes])


@pytest.mark.parametrize("kind", ATTACKS)
def test_one_round_by_hand(tiny: Make, tmp_path: Path, kind: str) -> None:
    scenario = attacked(tiny, kind, rounds=1, strategy=UNIFORM)
    record = run(scenario, out=tmp_path, device="cpu")
    population = open_population(scenario)
    honest = tiny(population=SITES, rounds=1)
    with repeatable():
        place = Workplace(honest, population, torch.device("cpu"))
        initial = place.network.initial
        start = vector(initial)
        if kind == "label_flip":
            batch = place.examples(2, "train")
            batch.labels.copy_(1 - batch.labels)
        updates = np.stack(
            [vector(train(place, site, 1, initial).state) - start for site in range(4)]
        )
    others = updates[[0, 1, 3]]
    match kind:
        case "sign_flip":
            updates[2] *= -2.0
        case "scaled_update":
            updates[2] *= 4.0
        case "gaussian":
            updates[2] = noise(scenario, place)
        case "inner_product":
            updates[2] = -2.0 * others.mean(0)
        case "little_is_enough":
            updates[2] = others.mean(0) - 1.5 * others.std(0)
    found = vector(model_after(record, 1)) - start
    np.testing.assert_allclose(found, updates.mean(0), atol=2e-7)
    assert np.abs(found).max() > 1e-3
    assert record.rounds[0]["attackers"] == [BAD]
    assert record.population["adversaries"] == [{"kind": kind, "from_round": 1, "sites": [BAD]}]


@pytest.mark.parametrize("kind", ATTACKS)
def test_until_it_attacks_a_run_has_the_bits_of_the_honest_one(
    tiny: Make, tmp_path: Path, kind: str
) -> None:
    honest = run(tiny(population=SITES, rounds=3), out=tmp_path, name="honest", keep_every=1)
    scenario = attacked(tiny, kind, from_round=3, rounds=3)
    found = run(scenario, out=tmp_path, name="attacked", keep_every=1)
    assert [row["attackers"] for row in found.rounds] == [[], [], [BAD]]
    assert found.rounds[:2] == honest.rounds[:2]
    early = [[row for row in record.metrics if row["round"] < 3] for record in (found, honest)]
    assert early[0] == early[1]
    for round in range(4):
        one, other = (
            checkpoint.load(checkpoint.path_of(r.folder, round))["model"] for r in (found, honest)
        )
        equal = all(torch.equal(tensor, other[name]) for name, tensor in one.items())
        assert equal == (round < 3)


def test_flipped_labels_are_those_of_training_alone(tiny: Make, tmp_path: Path) -> None:
    scenario = attacked(tiny, "label_flip", rounds=1)
    place = Workplace(scenario, open_population(scenario), torch.device("cpu"))
    before = place.examples(2, "train").labels.clone()
    assert before.unique().numel() == 2
    assert torch.equal(taught(place, 2, 1).labels, 1 - before)
    assert torch.equal(taught(place, 1, 1).labels, place.examples(1, "train").labels)
    train(place, 2, 1, place.network.initial)
    assert torch.equal(place.examples(2, "train").labels, before)


def bits(record: RunRecord) -> list[bytes]:
    files = [record.folder / name for name in ("rounds.jsonl", "metrics.jsonl")]
    return [f.read_bytes() for f in (*files, *sorted((record.folder / "checkpoints").iterdir()))]


FLEET = [
    {"profile": "h100-sxm", "sites": ["site-00"], "latency_s": 0},
    {"profile": "t4", "sites": ["site-01"], "uplink_mbps": 1, "jitter": 0.3},
    {"profile": "cpu-16c", "share": 1, "uplink_mbps": 0.3},
]
BUFFERED = {
    "rounds": 6,
    "population": {
        **SITES,
        "devices": FLEET,
        "adversaries": [
            {"kind": "label_flip", "sites": ["site-01"], "from_round": 2},
            {"kind": "gaussian", "sites": ["site-01", "site-03"], "norm_ratio": 2, "from_round": 2},
            {"kind": "inner_product", "epsilon": 1.0, "sites": [BAD], "from_round": 2},
        ],
    },
    "round_policy": {"kind": "buffered_async", "buffer_size": 2},
    "cohort": {"kind": "fixed_size", "num_sites": 3},
}


def test_a_late_site_attacks_if_it_started_late_enough(tiny: Make, tmp_path: Path) -> None:
    record = run(tiny(**BUFFERED), out=tmp_path, device="cpu")
    early = 0
    for row in record.rounds:
        started = {t["site"]: row["round"] - t["staleness"] for t in row["virtual"]["tasks"]}
        bad = [site for site in row["cohort"] if site != "site-00" and started[site] >= 2]
        assert row["attackers"] == bad
        early += row["round"] >= 2 and len(set(row["cohort"]) - {"site-00", *bad})
    assert early, "choose other devices: no site started before the attack and was late"


class Killed(Exception):
    """What happens to a run in the middle."""


def test_a_run_under_attack_goes_on_to_the_same_bits(tiny: Make, tmp_path: Path) -> None:
    whole = run(tiny(**BUFFERED), out=tmp_path, name="whole", device="cpu")

    def kill(progress: Any) -> None:
        if progress.round == 3:
            raise Killed

    with pytest.raises(Killed):
        run(tiny(**BUFFERED), out=tmp_path, name="killed", device="cpu", watch=kill)
    assert bits(resume(tmp_path / "killed")) == bits(whole)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["own", "flower"])
def test_workers_and_engines_change_no_bit(tiny: Make, tmp_path: Path, engine: Any) -> None:
    if engine == "flower":
        pytest.importorskip("ray")
    expected = run(tiny(**BUFFERED), out=tmp_path, name="one", device="cpu")
    found = run(tiny(**BUFFERED), out=tmp_path, name="two", device="cpu", workers=2, engine=engine)
    assert bits(found) == bits(expected)


def test_a_site_that_fails_attacks_nobody(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(place: Workplace, site: int, *more: Any) -> Any:
        if site == 2:
            raise MemoryError
        return train(place, site, *more)

    monkeypatch.setattr(client_app, "train", fail)
    scenario = attacked(tiny, "inner_product", rounds=1, on_client_failure="drop")
    (row,) = run(scenario, out=tmp_path, device="cpu").rounds
    assert row["dropped"] == [BAD]
    assert row["attackers"] == []


def test_an_attack_that_leaves_the_numbers_is_told(tiny: Make, tmp_path: Path) -> None:
    part = {"kind": "scaled_update", "factor": 1e300, "sites": [BAD]}
    scenario = tiny(population={**SITES, "adversaries": [part]})
    with pytest.raises(RunError, match=r"round 1: .* not finite: .* or weaker adversaries"):
        run(scenario, out=tmp_path, device="cpu")


@pytest.mark.parametrize("kind", ["inner_product", "sign_flip"])
def test_an_honest_site_that_diverges_is_named(tiny: Make, tmp_path: Path, kind: str) -> None:
    hot = {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 1e30}}
    with pytest.raises(DivergedError, match=r"round 1: training diverged at site-0[013]"):
        run(attacked(tiny, kind, client=hot), out=tmp_path, device="cpu")


def test_the_lens_looks_at_what_was_trained_not_at_what_was_sent(
    tiny: Make, tmp_path: Path
) -> None:
    honest = run(tiny(population=SITES, rounds=1), out=tmp_path, name="honest", device="cpu")
    found = run(attacked(tiny, "sign_flip", rounds=1), out=tmp_path, name="bad", device="cpu")
    true, under = (record.rounds[0]["loss_decomposition"] for record in (honest, found))
    for term in ("local_loss", "distribution_shift_loss"):
        assert under[term] == true[term]
    assert under["aggregation_loss"] != true["aggregation_loss"]
    for key in ("site_train_loss", "train_loss", "bytes_up", "num_examples"):
        assert found.rounds[0][key] == honest.rounds[0][key]


def reply_of(site: int, state: dict[str, Tensor]) -> tuple[int, Message]:
    message = Message(RecordDict({}), site + 2, "train")
    content = RecordDict(
        {
            wire.ARRAYS: wire.to_arrays(state),
            wire.METRICS: MetricRecord({wire.NUM_EXAMPLES: site + 1}),
        }
    )
    return site, Message(content, reply_to=message)


def states(num: int) -> list[dict[str, Tensor]]:
    return [
        {
            "weight": torch.full((2, 2), float(site)),
            "norm.running_mean": torch.full((2,), 10.0 + site),
            "norm.num_batches_tracked": torch.tensor(site),
        }
        for site in range(num)
    ]


def make_attack(*parts: Any, num: int = 4) -> Attack:
    attackers = choose(parts, [f"site-{n}" for n in range(num)], Streams(0))
    buffers = ("norm.running_mean", "norm.num_batches_tracked")
    return Attack(attackers, buffers, Streams(0), torch.device("cpu"))


def test_buffers_and_reports_stay_the_sites_own() -> None:
    start = {name: torch.zeros_like(tensor) for name, tensor in states(1)[0].items()}
    attack = make_attack(InnerProduct(sites=("site-1",), epsilon=2))
    attack.begin({0: 1, 1: 1, 3: 1})
    with flower_identity():
        replies = [reply_of(site, states(4)[site]) for site in (0, 1, 3)]
        found = [reply.content for reply in attack.forged(iter(replies), start)]
    models = [wire.from_arrays(content.array_records[wire.ARRAYS]) for content in found]
    assert [float(model["weight"][0, 0]) for model in models] == [0.0, -3.0, 3.0]
    for site, model, content in zip((0, 1, 3), models, found, strict=True):
        for name in ("norm.running_mean", "norm.num_batches_tracked"):
            assert torch.equal(model[name], states(4)[site][name])
        assert content.metric_records[wire.METRICS][wire.NUM_EXAMPLES] == site + 1


def test_where_no_honest_site_takes_part_they_send_nothing_new() -> None:
    start = {name: tensor + 1 for name, tensor in states(1)[0].items()}
    attack = make_attack(InnerProduct(sites=("site-1", "site-2"), epsilon=2))
    attack.begin({1: 1, 2: 1})
    with flower_identity():
        replies = [reply_of(site, states(4)[site]) for site in (1, 2)]
        for reply in attack.forged(iter(replies), start):
            model = wire.from_arrays(reply.content.array_records[wire.ARRAYS])
            assert torch.equal(model["weight"], start["weight"])


@pytest.mark.parametrize(
    ("parts", "held"),
    [
        ((), 1),
        ((Gaussian(sites=("site-1",), std=1),), 1),
        ((InnerProduct(sites=("site-1",), epsilon=1),), 4),
        ((InnerProduct(sites=("site-1",), epsilon=1, from_round=2),), 1),
    ],
    ids=str,
)
def test_only_an_omniscient_attack_holds_replies_back(parts: Any, held: int) -> None:
    start, asked = {name: torch.zeros_like(t) for name, t in states(1)[0].items()}, 0
    attack = make_attack(*parts)
    attack.begin(dict.fromkeys(range(4), 1))

    def replies() -> Any:
        nonlocal asked
        for site, state in enumerate(states(4)):
            asked += 1
            yield reply_of(site, state)

    with flower_identity():
        next(iter(attack.forged(replies(), start)))
    assert asked == held
