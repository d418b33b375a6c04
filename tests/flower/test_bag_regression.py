"""A regression from bags alone, end to end: it learns, repeats its bits, and is told as such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedsim
from fedsim.data.aggregates import Aggregates
from fedsim.flower.scoring import bag_loss, score
from fedsim.flower.unshrinking import told, unshrunk
from fedsim.records import RunRecord
from fedsim.scenario import Scenario, open_population

Make = Callable[..., Scenario]
FILES = ("rounds.jsonl", "metrics.jsonl", "baselines.jsonl")
NOISY = {
    "kind": "bags",
    "bag_size": 4,
    "truncation": {"low": 0, "high": 4},
    "label_privacy": {"kind": "laplace", "epsilon": 4.0},
}
SECTIONS: dict[str, Any] = {
    "rounds": 3,
    "data": {
        "source": {"kind": "synthetic", "anatomy": "fundus", "image_size": 16, "num_examples": 400},
        "task": "regression",
        "target": "lesion_area",
        "target_range": [0, 5],
        "normalisation": {"kind": "per_image"},
    },
    "population": {"num_sites": 3, "supervision": [{"kind": "bags", "bag_size": 4}]},
    "model": {"kind": "small_cnn", "widths": [8, 16]},
    "client": {
        "epochs": 2,
        "batch_size": 16,
        "optimizer": {"kind": "adam", "learning_rate": 0.01},
        "objective": {"kind": "interpolated_bag", "rho": 0.03, "criterion": "squared"},
    },
    "evaluation": {
        "metrics": ["rmse", "r2", "bag_loss"],
        "select_by": "bag_loss",
        "loss_decomposition": False,
    },
    "baselines": ["pooled"],
}


@pytest.fixture(scope="module")
def scenario(tiny: Make) -> Scenario:
    return tiny(**SECTIONS)


@pytest.fixture(scope="module")
def record(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return fedsim.run(scenario, out=tmp_path_factory.mktemp("bags"), device="cpu")


def bits(folder: Path) -> dict[str, bytes]:
    files = [folder / name for name in FILES] + sorted((folder / "checkpoints").iterdir())
    return {file.name: file.read_bytes() for file in files}


def values(record: RunRecord, split: str, metric: str) -> list[float | None]:
    wanted = (split, "pooled", metric)
    return [r["value"] for r in record.metrics if (r["split"], r["site"], r["metric"]) == wanted]


@pytest.mark.slow
def test_it_learns_single_numbers_from_means_alone(tiny: Make, tmp_path: Path) -> None:
    plan = tiny(**{**SECTIONS, "rounds": 24, "baselines": []})
    record = fedsim.run(plan, out=tmp_path, device="cpu")
    (first, *_, last) = [value for value in values(record, "test", "r2") if value is not None]
    assert first < 0
    assert last > 0.25  # the mean squared error is below three quarters of the variance
    (first, *_, last) = [v for v in values(record, "validation", "bag_loss") if v is not None]
    assert last < first / 2


def test_sites_are_judged_by_bags_and_by_the_simulator(record: RunRecord) -> None:
    assert set(values(record, "validation", "rmse")) == {None}
    assert None not in values(record, "validation", "bag_loss")
    assert None not in values(record, "test", "rmse")
    assert record.selection.metric == "bag_loss"
    assert record.population["knowledge"]["site-01"]["bags"]["train"]["num_pure"] is None
    pooled = [r["value"] for r in record.baselines if (r["split"], r["metric"]) == ("test", "rmse")]
    assert None not in pooled


def test_test_numbers_are_the_simulator_s_and_others_nobody_s(
    tiny: Make, record: RunRecord
) -> None:
    truth = open_population(
        tiny(**{k: v for k, v in SECTIONS.items() if k == "data"}, population={"num_sites": 3})
    )
    found = record.predictions(record.selection.final_round)
    for site, name in enumerate(truth.names):
        assert found["test"][name][1].tobytes() == truth.truth(site, "test").tobytes()
        assert np.isnan(found["validation"][name][1]).all()


def test_a_run_that_died_goes_on_to_the_same_bits(
    scenario: Scenario, record: RunRecord, broken: Callable[[Scenario, int], Path]
) -> None:
    folder = broken(scenario, 1)
    fedsim.resume(folder)
    assert bits(folder) == bits(record.folder)


@pytest.mark.slow
def test_workers_give_the_same_bits(scenario: Scenario, record: RunRecord, tmp_path: Path) -> None:
    other = fedsim.run(scenario, out=tmp_path, device="cpu", workers=2)
    assert bits(other.folder) == bits(record.folder)


def test_the_report_says_what_was_told_and_promised(tiny: Make, tmp_path: Path) -> None:
    population = {"num_sites": 3, "supervision": [NOISY]}
    plan = tiny(**{**SECTIONS, "rounds": 1, "baselines": [], "population": population})
    record = fedsim.run(plan, out=tmp_path, device="cpu")
    fedsim.write_report(record)
    page = (record.folder / "report" / "index.html").read_text(encoding="utf-8")
    said = (record.folder / "report" / "results.md").read_text(encoding="utf-8")
    assert "label level: epsilon 4.0000" in said
    assert "the range of targets from" in said
    assert "of the numbers in bags were outside their public range" in said
    assert "of one class" not in page
    assert "nats" not in page


def test_the_bag_loss_of_numbers_is_the_squared_error_of_means() -> None:
    said = np.array([[1.0], [2.0], [7.0]], np.float32)
    bags = Aggregates(np.array([0, 0, 1]), np.array([[2.0], [4.0]], np.float32))
    assert bag_loss(said, bags) == pytest.approx((2 * (1.5 - 2) ** 2 + (7 - 4) ** 2) / 3)


def test_in_bags_of_one_it_is_the_mean_squared_error(scenario: Scenario) -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(9, 1)).astype(np.float32), rng.normal(size=9)
    bags = Aggregates(np.arange(9), truth[:, None].astype(np.float32))
    unknown = np.full(9, np.nan, np.float32)
    rows = score(
        scenario,
        1,
        {"validation": {"a": (scores, truth.astype(np.float32)), "b": (scores, unknown)}},
        {"validation": {"b": bags}},
    )
    found = {(row["site"], row["metric"]): row["value"] for row in rows}
    expected = pytest.approx(np.square(scores[:, 0] - truth).mean(), rel=1e-5)
    assert found["a", "bag_loss"] == found["b", "bag_loss"] == found["pooled", "bag_loss"]
    assert found["a", "bag_loss"] == expected
    assert found["b", "rmse"] is None


def test_a_site_without_a_bag_tells_no_bag_loss(scenario: Scenario) -> None:
    nothing = Aggregates(np.zeros(0, np.int64), np.zeros((0, 1), np.float32))
    none = np.zeros((0, 1), np.float32), np.zeros(0, np.float32)
    rows = score(scenario, 1, {"validation": {"a": none}}, {"validation": {"a": nothing}})
    assert {row["value"] for row in rows} == {None}


def test_what_the_instance_loss_has_shrunk_comes_back(scenario: Scenario) -> None:
    """Shrunk towards the mean number by the size of the bags."""
    population = open_population(scenario)
    mean, size = told(population)
    of_sites = [population.bags(site, "train")[0] for site in range(3)]
    total = sum(float(bags.sizes @ bags.responses[:, 0]) for bags in of_sites)
    assert mean == pytest.approx(total / sum(len(bags.of_example) for bags in of_sites))
    assert 4 <= size < 5
    true = np.random.default_rng(0).normal(2, 1, (50, 1))
    said = {"test": {"a": ((mean + (true - mean) / size).astype(np.float32), true[:, 0])}}
    ((found, _),) = unshrunk(said, mean, size)["test"].values()
    np.testing.assert_allclose(found, true, atol=1e-5)


@pytest.mark.slow
def test_rho_is_chosen_by_validation_bags(tiny: Make, tmp_path: Path) -> None:
    objective = {"kind": "interpolated_bag", "rho": "auto", "criterion": "squared"}
    client = {**SECTIONS["client"], "objective": objective}
    plan = tiny(**{**SECTIONS, "rounds": 2, "client": client, "baselines": ["unshrunk"]})
    record = fedsim.run(plan, out=tmp_path, device="cpu")
    losses = {float(rho): loss for rho, loss in record.run["chosen"]["bag_loss"].items()}
    assert record.run["chosen"]["rho"] == min(losses, key=losses.__getitem__)
    assert {row["baseline"] for row in record.baselines} == {"unshrunk"}
