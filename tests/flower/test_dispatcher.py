"""Rounds on the virtual clock, as sites and strategies see them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsim.engines.inline import repeatable
from fedsim.errors import ScenarioError
from fedsim.fleet.profile import Profile
from fedsim.flower import client_app, wire
from fedsim.flower.dispatcher import rebased
from fedsim.flower.local_training import train
from fedsim.flower.muster import MEASURED, _parts, footprint, muster
from fedsim.flower.workplace import Workplace
from fedsim.records import RunRecord, checkpoint
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import resume, run

Tiny = Callable[..., Scenario]
SAME = ("rounds.jsonl", "metrics.jsonl")
EQUAL = [{"profile": "t4", "share": 1}]
UNEQUAL = [
    {"profile": "h100-sxm", "sites": ["site-00"], "latency_s": 0},
    {"profile": "t4", "sites": ["site-01"], "uplink_mbps": 1, "jitter": 0.3},
    {"profile": "cpu-16c", "share": 1, "uplink_mbps": 0.3, "availability": 0.8},
]


def on(devices: list[dict[str, Any]], **population: Any) -> dict[str, Any]:
    return {"num_sites": 5, "devices": devices, **population}


def final(record: RunRecord) -> dict[str, Tensor]:
    last = record.selection.final_round
    model: dict[str, Tensor] = checkpoint.load(checkpoint.path_of(record.folder, last))["model"]
    return model


def same_model(one: RunRecord, other: RunRecord) -> bool:
    a, b = final(one), final(other)
    return all(torch.equal(a[name], b[name]) for name in a)


POLICIES = {
    "deadline": {"round_policy": {"kind": "deadline", "seconds": 0.4}},
    "finished-steps": {
        "round_policy": {"kind": "deadline", "seconds": 0.25, "late": "finished_steps"}
    },
    "over-selection": {
        "round_policy": {"kind": "over_select", "extra": 1.0},
        "cohort": {"kind": "fixed_size", "num_sites": 2},
    },
    "buffered": {
        "round_policy": {"kind": "buffered_async", "buffer_size": 2},
        "cohort": {"kind": "fixed_size", "num_sites": 3},
    },
}
policies = pytest.mark.parametrize("sections", POLICIES.values(), ids=POLICIES)


@pytest.mark.parametrize(
    "sections",
    [
        {"round_policy": {"kind": "deadline", "seconds": 1000}},
        {"round_policy": {"kind": "buffered_async", "buffer_size": 5}},
        {
            "round_policy": {"kind": "over_select", "extra": 0.5},
            "cohort": {"kind": "fixed_size", "num_sites": 3},
        },
        {
            "round_policy": {"kind": "buffered_async", "buffer_size": 3},
            "cohort": {"kind": "fixed_size", "num_sites": 3},
        },
    ],
    ids=lambda sections: str(sections["round_policy"]["kind"]),
)
def test_with_equal_devices_every_policy_is_synchronous_bit_for_bit(
    tiny: Tiny, tmp_path: Path, sections: dict[str, Any]
) -> None:
    same = {
        "cohort": sections.get("cohort", {"kind": "all"}),
        "client": {"steps": 1, "batch_size": 8},  # equal work, however many examples a site has
    }
    sites = {"num_sites": 5, "partition": {"kind": "iid"}}
    equal = tiny(population={**sites, "devices": EQUAL}, **{**sections, **same})
    plain = tiny(population=sites, **same)
    found, expected = run(equal, out=tmp_path, name="a"), run(plain, out=tmp_path, name="b")
    assert same_model(found, expected)
    assert [row["cohort"] for row in found.rounds] == [row["cohort"] for row in expected.rounds]
    assert found.metrics == expected.metrics
    assert all(row["virtual"] is None for row in expected.rounds)


def test_unequal_devices_make_a_difference(tiny: Tiny, tmp_path: Path) -> None:
    expected = run(tiny(population=on(EQUAL)), out=tmp_path, name="synchronous")
    for name, sections in POLICIES.items():
        found = run(tiny(population=on(UNEQUAL), **sections), out=tmp_path, name=name)
        assert not same_model(found, expected)


@pytest.mark.slow
@policies
def test_bits_do_not_depend_on_workers(
    tiny: Tiny, tmp_path: Path, sections: dict[str, Any]
) -> None:
    scenario = tiny(rounds=4, population=on(UNEQUAL), **sections)
    one, two = (run(scenario, out=tmp_path, name=f"w{w}", workers=w) for w in (1, 2))
    for file in SAME:
        assert (one.folder / file).read_bytes() == (two.folder / file).read_bytes()
    assert same_model(one, two)


class Killed(Exception):
    """What happens to a run in the middle."""


@policies
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    tiny: Tiny, tmp_path: Path, sections: dict[str, Any]
) -> None:
    scenario = tiny(rounds=5, population=on(UNEQUAL), **sections)
    whole = run(scenario, out=tmp_path, name="whole")

    def kill(progress: Any) -> None:
        if progress.round == 3:
            raise Killed

    with pytest.raises(Killed):
        run(scenario, out=tmp_path, name="killed", watch=kill)
    again = resume(tmp_path / "killed")
    for file in SAME:
        assert (again.folder / file).read_bytes() == (whole.folder / file).read_bytes()
    assert same_model(again, whole)


def test_models_in_flight_are_in_the_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    scenario = tiny(rounds=4, population=on(UNEQUAL), **POLICIES["buffered"])
    record = run(scenario, out=tmp_path, name="buffered", keep_every=1)
    held = [
        checkpoint.load(checkpoint.path_of(record.folder, round))["dispatcher"]
        for round in range(5)
    ]
    assert any(state["models"] for state in held)
    for round, state in enumerate(held):
        versions = {task["version"] for task in state["schedule"]["in_flight"]}
        assert {int(version) for version in state["models"]} == versions
        for version in versions:
            then = checkpoint.load(checkpoint.path_of(record.folder, version))["model"]
            kept = state["models"][str(version)]
            assert version < round
            assert all(torch.equal(kept[name], then[name]) for name in then)
    stale = [task["staleness"] for row in record.rounds for task in row["virtual"]["tasks"]]
    assert max(stale) > 0, "choose other devices"


def test_a_resumed_run_without_those_models_would_be_noticed(tiny: Tiny, tmp_path: Path) -> None:
    scenario = tiny(rounds=4, population=on(UNEQUAL), **POLICIES["buffered"])
    record = run(scenario, out=tmp_path, name="whole", keep_every=1)
    copy = tmp_path / "copy"
    shutil.copytree(record.folder, copy)
    for name in ("intervals.jsonl", "baselines.jsonl"):
        (copy / name).unlink()
    for round in (3, 4):
        checkpoint.path_of(copy, round).unlink()
    path = checkpoint.path_of(copy, 2)
    state = checkpoint.load(path)
    models = state["dispatcher"]["models"]
    assert models
    for model in models.values():
        for tensor in model.values():
            tensor.zero_()
    checkpoint.save(path, state)
    with pytest.raises(Exception, match=r"differs|another|repeat"):
        resume(copy)


def test_staleness_by_hand(tiny: Tiny, tmp_path: Path) -> None:
    """Two updates make a model; the slow site's, one model old, counts 1 / sqrt(2)."""
    scenario = tiny(
        rounds=2,
        population={
            "num_sites": 3,
            "partition": {"kind": "iid"},
            "devices": [
                {"profile": "h100-sxm", "sites": ["site-00", "site-01"], "latency_s": 0},
                {"profile": "t4", "sites": ["site-02"], "latency_s": 0.0005},
            ],
        },
        round_policy={"kind": "buffered_async", "buffer_size": 2},
        strategy={"kind": "weighted_mean", "weights": "uniform"},
        client={"steps": 1, "batch_size": 8},
        evaluation={"loss_decomposition": False},
    )
    record = run(scenario, out=tmp_path, name="stale", keep_every=1, device="cpu")
    second = {task["site"]: task["staleness"] for task in record.rounds[1]["virtual"]["tasks"]}
    models = [
        checkpoint.load(checkpoint.path_of(record.folder, round))["model"] for round in range(3)
    ]
    with repeatable():
        workplace = Workplace(scenario, open_population(scenario), torch.device("cpu"))

        def trained(site: int, round: int) -> dict[str, Tensor]:
            state = train(workplace, site, round, models[round - 1]).state
            return {name: tensor.detach().clone() for name, tensor in state.items()}

        updates = []
        for site, staleness in ((int(name[-1]), tau) for name, tau in second.items()):
            local, start = trained(site, 2 - staleness), models[1 - staleness]
            factor = (1 + staleness) ** -0.5
            updates.append({n: factor * (local[n].double() - start[n].double()) for n in local})
    assert sorted(second.values()) == [0, 1]
    for name, found in models[2].items():
        expected = models[1][name].double() + sum(update[name] for update in updates) / 2
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-7)


def test_rebasing() -> None:
    def state(value: float, count: int) -> dict[str, Tensor]:
        return {"w": torch.tensor([value, 1.0]), "count": torch.tensor(count)}

    found = wire.from_arrays(
        rebased(wire.to_arrays(state(5.0, 7)), state(1.0, 3), state(10.0, 4), 0.5)
    )
    assert torch.equal(found["w"], torch.tensor([12.0, 1.0]))
    assert found["count"] == 7
    assert found["w"].dtype == torch.float32


def test_sites_do_what_their_devices_say(tiny: Tiny, tmp_path: Path) -> None:
    devices = [
        {"profile": "l4", "sites": ["site-00"], "epochs": 2},
        {"profile": "l4", "sites": ["site-01"], "batch_size": 5},
        {"profile": "l4", "sites": ["site-02"], "steps": 1},
        {"profile": "l4", "sites": ["site-03"], "precision": "bf16"},
        {"profile": "l4", "sites": ["site-04"]},
    ]
    seen: dict[int, Any] = {}
    scenario = tiny(rounds=1, population=on(devices))

    def note(
        place: Workplace, site: int, round: int, state: Any, mu: Any, plan: Any, *rest: Any
    ) -> Any:
        trained = train(place, site, round, state, mu, plan, *rest)
        seen[site] = plan, trained.num_steps, trained.num_examples
        return trained

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_app, "train", note)
        run(scenario, out=tmp_path)
    num = {site: examples for site, (_, _, examples) in seen.items()}
    assert seen[0][1] == 2 * -(-num[0] // 16)
    assert seen[1][1] == -(-num[1] // 5)
    assert seen[2][1] == 1
    assert seen[3][0].precision == "bf16"
    assert seen[4][0] is None


def test_finished_steps_are_the_first_steps(tiny: Tiny, tmp_path: Path) -> None:
    fast = {"profile": "h100-sxm", "share": 1}
    slow = {"profile": "cpu-16c", "sites": ["site-02"], "utilisation": 1e-6, "jitter": 0.0}
    client = {"steps": 6, "batch_size": 4}
    with repeatable():
        scenario = tiny(population=on([slow, fast]), client=client)
        population = open_population(scenario)
        fleet = muster(Workplace(scenario, population, torch.device("cpu")))
    trip = fleet.trip(2, 1)
    seconds = trip.download_s + 3.5 * trip.step_s[0] + trip.upload_s
    assert fleet.trip(0, 1).seconds < seconds
    late = {"kind": "deadline", "seconds": seconds, "late": "finished_steps"}
    cut = tiny(population=on([slow, fast]), client=client, round_policy=late)
    short = tiny(population=on([{**slow, "steps": 3}, fast]), client=client)
    found, expected = run(cut, out=tmp_path, name="cut"), run(short, out=tmp_path, name="short")
    assert same_model(found, expected)
    assert found.rounds[0]["virtual"]["end_s"] == seconds
    assert len(found.rounds[0]["cohort"]) == 5


def test_a_device_that_is_too_small_is_refused_before_anything_is_written(
    tiny: Tiny, tmp_path: Path
) -> None:
    with repeatable():
        scenario = tiny(population=on([{"profile": "t4", "share": 1}]))
        found = footprint(
            Workplace(scenario, open_population(scenario), torch.device("cpu")), "fp32"
        )
    small = {
        "fp32_tflops": 1,
        "memory_gb": found.memory(6) / 1e9,
        "memory_gb_per_s": 100,
    }
    devices = [{"profile": small, "share": 1}]
    with pytest.raises(ScenarioError, match=r"devices\.0\n.*largest batch that fits is 6: give"):
        run(tiny(population=on(devices)), out=tmp_path, name="refused")
    assert not (tmp_path / "refused").exists()
    run(tiny(population=on([{**devices[0], "batch_size": 6}])), out=tmp_path, name="smaller")
    client = {"epochs": 1, "batch_size": 16, "batch": "fit"}
    fit = run(tiny(population=on(devices), client=client), out=tmp_path, name="fit")
    whole = run(tiny(population=on(EQUAL), client=client), out=tmp_path, name="whole")
    for name, tensor in final(whole).items():
        torch.testing.assert_close(final(fit)[name], tensor, rtol=1e-4, atol=1e-6)
    tiny_device = {**small, "memory_gb": found.memory(0) / 1e9}
    with pytest.raises(ScenarioError, match="not even a batch of one fits"):
        run(tiny(population=on([{"profile": tiny_device, "share": 1}]), client=client))


@pytest.fixture
def workplace(tiny: Tiny) -> Iterator[Workplace]:
    scenario = tiny(population=on(EQUAL))
    with repeatable():
        yield Workplace(scenario, open_population(scenario), torch.device("cpu"))


def test_the_cost_of_a_step_by_hand(workplace: Workplace) -> None:
    found = footprint(workplace, "fp32")
    # an MLP of 256 inputs, 8 hidden units and 2 classes; images of 16 x 16 pixels
    assert found.flops == 2 * (2 * 256 * 8) + 3 * (2 * 8 * 2)
    assert found.num_models == 1
    assert found.parameter_bytes == 4 * (256 * 8 + 8 + 8 * 2 + 2)
    # the images, hidden units after the ReLU, log-probabilities and labels, and what the mean needs
    assert found.example_bytes == 4 * 256 + 4 * 8 + 4 * 2 + 8
    assert max(MEASURED) > min(MEASURED) > 1


CLIENT = {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], float, float, float]] = {
    "moon": ({"regulariser": {"kind": "contrastive"}}, {}, 2 * 2 * (256 * 8 + 8 * 2), 1, 0),
    "scaffold": (
        {"regulariser": {"kind": "control_variates"}},
        {"strategy": {"kind": "scaffold"}},
        *(0, 1, 1),
    ),
    "ditto": ({"personalisation": {"kind": "ditto"}}, {}, 0, 2, 0),
    "private": (
        {"personalisation": {"kind": "private_parameters", "names": ["3.*"]}},
        {"evaluation": {"loss_decomposition": False}},
        *(0, 1, -1 / 3),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_a_method_adds_is_on_the_clock(tiny: Tiny, change: Any) -> None:
    client, sections, more_flops, num_models, share = change
    population = on(EQUAL)
    plain, found = (
        muster(Workplace(s, open_population(s), torch.device("cpu")))
        for s in (
            tiny(population=population),
            tiny(population=population, client={**CLIENT, **client}, **sections),
        )
    )
    group = found.groups[0]
    cost, usual = found.footprint(group), plain.footprint(group)
    assert (cost.flops - usual.flops, cost.num_models) == (more_flops, num_models)
    if share > 0:
        assert found.num_bytes == plain.num_bytes * (1 + share)
    else:
        assert (found.num_bytes < plain.num_bytes) == (share < 0)
    assert found.trip(0, 1).step_s[0] >= num_models * plain.trip(0, 1).step_s[0]


def test_batch_normalisation_does_not_go_with_parts_of_a_batch(workplace: Workplace) -> None:
    fleet = muster(workplace)
    needed = fleet.footprint(fleet.groups[0])
    small = Profile(
        fp32_tflops=1, memory_gb=needed.memory(5) / 1e9, memory_gb_per_s=1, source="a test"
    )
    group = fleet.groups[0].model_copy(update={"profile": small})
    tight = replace(fleet, groups=(group,), fit=True)
    assert tight.plan_of(0).part_size == 5
    assert not list(_parts(tight, torch.nn.Linear(2, 2)))
    (problem,) = _parts(tight, torch.nn.BatchNorm2d(3))
    assert "normalises over batches" in problem.message
    assert not list(_parts(fleet, torch.nn.BatchNorm2d(3)))


def test_measuring_leaves_the_run_as_it_was(workplace: Workplace) -> None:
    before = train(workplace, 0, 1, workplace.network.initial)
    loss, state = before.loss, {n: t.detach().clone() for n, t in before.state.items()}
    muster(workplace)
    after = train(workplace, 0, 1, workplace.network.initial)
    assert after.loss == loss
    assert all(torch.equal(after.state[name], tensor) for name, tensor in state.items())


PRIVATE: dict[str, Any] = {
    "mechanism": {"kind": "example_level", "noise_multiplier": 2.0},
    "delta": 1e-3,
}


def test_the_clock_changes_nothing_of_private_training(tiny: Tiny, tmp_path: Path) -> None:
    slow = [{**UNEQUAL[2], "availability": 1.0, "jitter": 0.5}]
    timed = run(tiny(population=on(slow), privacy=PRIVATE), out=tmp_path, name="timed")
    plain = run(tiny(population={"num_sites": 5}, privacy=PRIVATE), out=tmp_path, name="plain")
    assert same_model(timed, plain)
    assert timed.ledger == plain.ledger
    assert timed.rounds[-1]["virtual"]["end_s"] > 0


def test_a_site_that_is_away_spends_nothing(tiny: Tiny, tmp_path: Path) -> None:
    away = [{"profile": "t4", "share": 1, "availability": 0.5}]
    record = run(tiny(rounds=4, population=on(away), privacy=PRIVATE), out=tmp_path, name="away")
    absent = {(row["round"], site) for row in record.rounds for site in row["absent"]}
    spent = {(row["round"], row["site"]) for row in record.ledger if row.get("event")}
    assert absent
    assert spent == {(row["round"], s) for row in record.rounds for s in row["cohort"]}
    assert not absent & spent


def test_a_step_that_clips_each_gradient_by_hand(tiny: Tiny) -> None:
    part = {**PRIVATE["mechanism"], "max_physical_batch": 6}
    scenario = tiny(population=on(EQUAL), privacy={**PRIVATE, "mechanism": part})
    with repeatable():
        fleet = muster(Workplace(scenario, open_population(scenario), torch.device("cpu")))
    found, numbers = fleet.footprint(fleet.groups[0]), 256 * 8 + 8 + 8 * 2 + 2
    assert found.flops == 2 * (2 * 256 * 8) + 3 * (2 * 8 * 2) + 4 * numbers
    assert found.example_bytes == 4 * 256 + 4 * 8 + 4 * 2 + 8 + 4 * numbers
    assert found.memory(16) == found.memory(6) == found.held_bytes + 6 * found.example_bytes
    assert found.traffic(16) > found.traffic(6)
    for site in range(5):
        sizes = fleet.batch_sizes(site)
        assert len(sizes) == scenario.client.plan.num_steps(fleet.num_examples(site))
        assert set(sizes) == {min(16, fleet.num_examples(site))}


def test_a_device_that_cannot_hold_a_part_of_a_private_batch_is_refused(tiny: Tiny) -> None:
    scenario = tiny(population=on(EQUAL), privacy=PRIVATE)
    with repeatable():
        workplace = Workplace(scenario, open_population(scenario), torch.device("cpu"))
        step = footprint(workplace, "fp32")
    small = {"fp32_tflops": 1, "memory_gb": step.memory(6) / 1e9, "memory_gb_per_s": 100}
    devices = on([{"profile": small, "share": 1}])
    with pytest.raises(ScenarioError, match=r"fits is 6: give it as privacy.*max_physical_batch"):
        run(tiny(population=devices, privacy=PRIVATE))
    part = {**PRIVATE["mechanism"], "max_physical_batch": 6}
    fits = tiny(population=devices, privacy={**PRIVATE, "mechanism": part})
    with repeatable():
        muster(Workplace(fits, open_population(fits), torch.device("cpu")))
