"""A plan counts what a run does, tries what could fail, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.objectives import CrossEntropy
from clients.training import Plan as LocalPlan
from fedsim import plan
from fedsim.errors import InputError
from fedsim.probe import first_step
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams
from fedsim.simulate import run

Make = Callable[..., Scenario]


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsim.probe.PROBE_S", 0.01)


def made(scenario: Scenario, out: Path) -> plan.Plan:
    return plan.make(scenario, open_population(scenario), out=out, device="cpu")


def test_it_counts_what_a_run_then_does(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny(rounds=2)
    found = made(scenario, tmp_path)
    record = run(scenario, out=tmp_path, device="cpu")
    assert found.problems == []
    assert found.sites == record.population["sites"]
    assert found.digest == record.run["digest"]
    assert found.folder == str(record.folder)
    for row in record.rounds:
        assert (found.bytes_down, found.bytes_up) == (row["bytes_down"], row["bytes_up"])
    sizes = [sum(site["train"]) for site in found.sites]
    assert found.steps == (-(-min(sizes) // 16), -(-max(sizes) // 16))
    assert found.memory == 4 * 120 * 16 * 16


def test_parameters_and_operations_of_an_mlp_in_closed_form(tiny: Make, tmp_path: Path) -> None:
    found = made(tiny(model={"kind": "mlp", "widths": [8]}), tmp_path)
    assert found.parameters == 256 * 8 + 8 + 8 * 2 + 2
    forwards, of_weights, of_hidden = 2 * (256 * 8 + 8 * 2), 2 * (256 * 8 + 8 * 2), 2 * 8 * 2
    assert found.probe is not None
    assert found.probe.forward_flops == forwards
    assert found.probe.training_flops == forwards + of_weights + of_hidden
    assert found.buffers == 0
    assert found.images == (1, 16, 16)


@pytest.mark.parametrize(
    ("cohort", "expected"),
    [
        ({"kind": "all"}, 3),
        ({"kind": "fixed_size", "num_sites": 2}, 2),
        ({"kind": "poisson", "sampling_rate": 0.25}, 0.75),
        ({"kind": "cyclic", "num_sites": 2}, 5 / 3),  # two, one and two
    ],
)
def test_traffic_is_that_of_the_expected_cohort(
    tiny: Make, tmp_path: Path, cohort: dict[str, Any], expected: float
) -> None:
    found = made(tiny(cohort=cohort), tmp_path)
    whole = made(tiny(), tmp_path)
    assert found.cohort == expected
    assert found.bytes_down == pytest.approx(whole.bytes_down * expected / 3)


class _Alternating:
    """A cohort of somebody's package: one site in odd rounds, two in even ones."""

    def draw(self, num_sites: int, round: int, streams: Streams) -> list[int]:
        return [0] if round % 2 else [0, 1]


def test_a_cohort_of_another_kind_is_drawn() -> None:
    scenario: Any = SimpleNamespace(cohort=_Alternating(), seed=0, rounds=10)
    assert plan._cohort_size(scenario, 3) == 1.5


@pytest.mark.parametrize(
    ("local", "size"),
    [
        (LocalPlan(16, epochs=2), 33),
        (LocalPlan(16, epochs=1), 7),
        (LocalPlan(16, epochs=3, drop_last=True), 33),
        (LocalPlan(16, steps=2), 33),
        (LocalPlan(16, steps=3), 33),
        (LocalPlan(16, steps=4), 32),
        (LocalPlan(16, steps=5, drop_last=True), 40),
    ],
)
def test_steps_and_smallest_batch_are_those_of_the_training_loop(
    local: LocalPlan, size: int
) -> None:
    import torch

    from clients.batch import Batch

    examples = Batch(torch.zeros(size, 1), torch.zeros(size, dtype=torch.int64))
    batches = list(local.batches(examples, torch.Generator()))
    assert local.num_steps(size) == len(batches)
    assert local.smallest_batch(size) == min(map(len, batches))


DEVICES = [
    {"profile": "l4", "sites": ["site-00"], "epochs": 3},
    {"profile": "t4", "sites": ["site-01", "site-02"], "batch_size": 5, "uplink_mbps": 0.1},
]


def test_the_fleet_is_planned_as_it_will_run(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny(
        population={"num_sites": 3, "partition": {"kind": "iid"}, "devices": DEVICES},
        round_policy={"kind": "deadline", "seconds": 0.6},
    )
    found, record = made(scenario, tmp_path), run(scenario, out=tmp_path, device="cpu")
    assert found.fleet is not None
    assert found.problems == []
    assert found.fleet.seconds == record.rounds[-1]["virtual"]["end_s"]
    late = [t for row in record.rounds for t in row["virtual"]["tasks"] if not t["counted"]]
    assert found.fleet.num_late == len(late) > 0
    assert [(crew.device, crew.num_sites) for crew in found.fleet.crews] == [("l4", 1), ("t4", 2)]
    sizes = [sum(site["train"]) for site in found.sites]
    assert found.steps == (3 * -(-sizes[0] // 16), -(-sizes[1] // 5))
    assert made(tiny(), tmp_path).fleet is None


def test_a_device_that_cannot_hold_its_batch_is_a_problem(tiny: Make, tmp_path: Path) -> None:
    small = {"fp32_tflops": 1, "memory_gb": 3e-5, "memory_gb_per_s": 100}
    devices = [{"profile": small, "share": 1}]
    found = made(tiny(population={"num_sites": 3, "devices": devices}), tmp_path)
    assert found.fleet is None
    (problem,) = found.problems
    assert problem.startswith("population.devices.0: site-0")
    assert "the largest batch that fits is " in problem
    (held,) = [int(word.rstrip(":")) for word in problem.split("fits is ")[1].split()[:1]]
    smaller = [{**devices[0], "batch_size": held}]
    assert not made(tiny(population={"num_sites": 3, "devices": smaller}), tmp_path).problems
    larger = [{**devices[0], "batch_size": held + 1}]
    assert made(tiny(population={"num_sites": 3, "devices": larger}), tmp_path).problems


def test_the_smallest_batch_of_a_device_is_tried(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    usual = first_step

    def note(workplace: Any, batch: Any) -> float:
        seen.append(len(batch))
        return usual(workplace, batch)

    for where in ("plan", "probe"):
        monkeypatch.setattr(f"fedsim.{where}.first_step", note)
    scenario = tiny(population={"num_sites": 3, "partition": {"kind": "iid"}, "devices": DEVICES})
    sizes = [sum(site["train"]) for site in made(scenario, tmp_path).sites]
    smallest = min(LocalPlan(5, epochs=1).smallest_batch(size) for size in sizes[1:])
    assert smallest < LocalPlan(16, epochs=1).smallest_batch(sizes[0])
    assert smallest in seen


def test_yardsticks_cost_time(tiny: Make, tmp_path: Path) -> None:
    found = made(tiny(baselines=["pooled", "local"], rounds=50), tmp_path)
    assert found.seconds is not None
    assert found.seconds_round is not None
    assert found.seconds > 2 * found.rounds * found.seconds_round


def test_the_last_round_is_evaluated_whatever_the_interval(tiny: Make, tmp_path: Path) -> None:
    def num_evaluations(every: int) -> float:
        found = made(tiny(rounds=5, evaluation={"every": every}), tmp_path)
        assert found.seconds is not None
        assert found.seconds_round is not None
        assert found.seconds_evaluation is not None
        return (found.seconds - 5 * found.seconds_round) / found.seconds_evaluation

    assert [num_evaluations(every) for every in (1, 2, 3, 9)] == pytest.approx([6, 4, 3, 2])


def test_it_takes_one_step_however_many_a_round_has(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.probe.MAX_CALLS", 1)
    steps: list[int] = []
    loss = CrossEntropy.loss

    def counted(self: Any, model: Any, batch: Any, context: Any) -> Any:
        steps.append(len(batch))
        return loss(self, model, batch, context)

    monkeypatch.setattr(CrossEntropy, "loss", counted)
    found = made(tiny(client={"steps": 500, "batch_size": 16}), tmp_path)
    assert found.steps == (500, 500)
    assert len(steps) <= 4


def test_noise_scanners_and_sites_apart_are_told_as_plain_data(tiny: Make, tmp_path: Path) -> None:
    sites = {
        "num_sites": 3,
        "holdout_sites": ["site-01"],
        "appearance": {"kind": "scanner", "severity": "severe"},
        "label_noise": [{"kind": "symmetric", "rate": 0.4}],
    }
    found = json.loads(json.dumps(made(tiny(population=sites), tmp_path).as_data()))
    assert [site["name"] for site in found["sites"]] == ["site-00", "site-02"]
    assert [part["name"] for part in found["external"]] == ["site-01"]
    assert set(found["looks"]) == {"site-00", "site-01", "site-02"}
    assert set(found["num_mislabelled"]) == {"site-00", "site-02"}
    assert len(found["class_names"]) == len(found["sites"][0]["train"]) == 2
    assert found["memory"] == 4 * 120 * 16 * 16


def test_it_writes_nothing(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    made(tiny(), tmp_path / "runs")
    kept = sorted(cache_folder.iterdir())
    made(tiny(strategy={"kind": "flower", "name": "FedAdam"}), tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []
    assert sorted(cache_folder.iterdir()) == kept


def test_what_would_fail_is_listed(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = tiny()
    run(scenario, out=tmp_path, device="cpu")
    assert "exists already" in "".join(made(scenario, tmp_path).problems)
    hot = {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 1e30}}
    assert "not finite" in "".join(made(tiny(client=hot), tmp_path).problems)

    def fail(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("clients.objectives.CrossEntropy.loss", fail)
    assert "a training step fails: RuntimeError: out of memory" in made(tiny(), tmp_path).problems


def test_problems_do_not_hide_each_other(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise InputError("no such rule")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel")

    scenario = tiny()
    Path(made(scenario, tmp_path).folder).mkdir()
    monkeypatch.setattr(plan, "build", fail)
    monkeypatch.setattr("clients.objectives.CrossEntropy.loss", broken)
    found = made(scenario, tmp_path)
    assert [problem.split(":")[0].split()[-1] for problem in found.problems[1:]] == [
        "built",
        "fails",
    ]
    assert "exists already" in found.problems[0]
    assert found.probe is found.seconds is None
    monkeypatch.setattr(plan, "Workplace", broken)
    with pytest.raises(InputError, match=r"(?s)exists already.*no such rule.*no kernel"):
        made(scenario, tmp_path)


def test_a_run_that_exists_is_still_timed(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny()
    Path(made(scenario, tmp_path).folder).mkdir()
    found = made(scenario, tmp_path)
    assert len(found.problems) == 1
    assert found.seconds


def test_the_smallest_batch_is_tried(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As batch normalisation does with a last batch of one image."""
    loss = CrossEntropy.loss

    def no_single(self: Any, model: Any, batch: Any, context: Any) -> Any:
        if len(batch) == 1:
            raise ValueError("expected more than 1 value per channel")
        return loss(self, model, batch, context)

    monkeypatch.setattr(CrossEntropy, "loss", no_single)
    sizes = [sum(site["train"]) for site in open_population(tiny()).table()]
    odd = next(n for n in range(2, 99) if any(size % n == 1 for size in sizes))
    (problem,) = made(tiny(client={"epochs": 1, "batch_size": odd}), tmp_path).problems
    assert "would train on a batch of 1, which fails: ValueError: expected more" in problem
    even = {"epochs": 1, "batch_size": odd, "drop_last": True}
    assert made(tiny(client=even), tmp_path).problems == []


@pytest.mark.parametrize("place", [0, 5], ids=["first", "later"])
def test_pictures_that_cannot_be_read_are_a_problem(tiny: Make, tmp_path: Path, place: int) -> None:
    lines = ["path,label,site,split"]
    for number in range(36):
        split = ("train", "validation", "test")[number // 12]
        name = f"{number}.png"
        Image.fromarray(np.full((16, 16), 7 * number, np.uint8)).save(tmp_path / name)
        lines.append(f"{name},{'ab'[number % 2]},Basel,{split}")
    (tmp_path / f"{place}.png").write_bytes(b"no picture")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    source = {"kind": "images", "path": str(tmp_path / "m.csv"), "image_size": 16}
    sites = {"partition": {"kind": "by_column"}, "held_out": "official"}
    found = made(tiny(data={"source": source, "task": "binary"}, population=sites), tmp_path)
    (problem,) = found.problems
    assert f"{place}.png: is no picture that can be read" in problem
    assert found.duplicates is None
    assert found.parameters


def test_traffic_is_the_length_of_npy_files(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny()
    network = _network(scenario)
    num_bytes = 0
    for tensor in network.state_dict().values():
        file = tmp_path / "tensor.npy"
        np.save(file, tensor.numpy())
        num_bytes += file.stat().st_size
    found = made(scenario, tmp_path)
    assert found.bytes_down == found.bytes_up == 3 * num_bytes
    assert found.parameters == sum(t.numel() for t in network.state_dict().values())


def _network(scenario: Scenario) -> Any:
    with Streams(scenario.seed).torch_default("initial_model"):
        return scenario.model.build(1, 2, 16)
