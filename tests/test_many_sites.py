"""Runs of populations whose sites are drawn: the same bits as ever, and no cost of absent sites."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clients.metrics import evaluate
from fedsim import leave_one_out, plan
from fedsim.data.population import Population
from fedsim.data.resampled import Resampled
from fedsim.data.source import PATIENT
from fedsim.data.unpacking import unpack
from fedsim.errors import InputError
from fedsim.flower.workplace import Workplace
from fedsim.records import RunRecord
from fedsim.report import rows, tables, write
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import resume, run
from fedsim.trained import load_model

Make = Callable[..., Scenario]
Many = Callable[..., Scenario]
MILLION = 1_000_000
COHORT = 4


@pytest.fixture(scope="module")
def many(tiny: Make) -> Many:
    """Return a function that makes a scenario of a million sites, of which four take part."""

    def make(**sections: Any) -> Scenario:
        partition = {"kind": "resampled", "examples_per_site": [5, 9], "alpha": 1.0}
        sites = {"num_sites": MILLION, "partition": partition, **sections.pop("population", {})}
        evaluation = {"loss_decomposition": False, **sections.pop("evaluation", {})}
        cohort = {"kind": "fixed_size", "num_sites": COHORT}
        return tiny(**{"cohort": cohort, "population": sites, "evaluation": evaluation, **sections})

    return make


@pytest.fixture(scope="module")
def record(many: Many, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    out = tmp_path_factory.mktemp("runs")
    return run(many(evaluation={"num_resamples": 20}), out=out, device="cpu")


def bits(folder: Path) -> dict[str, bytes]:
    files = [folder / name for name in ("rounds.jsonl", "metrics.jsonl")]
    files += sorted([*(folder / "checkpoints").iterdir(), *(folder / "predictions").iterdir()])
    return {file.name: file.read_bytes() for file in files}


def test_sites_of_all_over_the_population_train_on_what_they_draw(
    many: Many, record: RunRecord
) -> None:
    population = open_population(many())
    sizes = []
    for row in record.rounds:
        assert len(row["cohort"]) == COHORT
        for name, num in row["num_examples"].items():
            site = int(name.removeprefix("site-"))
            assert num == len(population.indices[site]["train"])
            sizes.append(num)
    assert len(set(sizes)) > 1
    assert max(int(name.removeprefix("site-")) for name in record.rounds[0]["cohort"]) > 10_000


def test_values_are_those_of_the_model_on_the_images_of_the_server(
    many: Many, record: RunRecord
) -> None:
    population = open_population(many())
    assert population.server is not None
    network = load_model(record.folder, "final")
    for split in ("validation", "test"):
        positions = population.server[split]  # type: ignore[index]
        images = population.normalisation.apply(population.pixels(positions))
        with torch.no_grad():
            scores = network(torch.from_numpy(images)).log_softmax(1).numpy()
        expected = evaluate(scores, population.labels[positions], ("auroc", "loss"), "binary", 1)
        found = {
            (row["site"], row["metric"]): row["value"]
            for row in record.metrics
            if (row["round"], row["split"]) == (3, split)
        }
        assert {site for site, _ in found} == {"pooled", "server"}
        for name, value in expected.items():
            assert found["pooled", name] == pytest.approx(value.value, abs=1e-6)
            assert found["server", name] == found["pooled", name]


def test_only_sites_that_take_part_are_drawn(
    many: Many, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    draw = Resampled.draw

    def counted(self: Resampled, *args: Any) -> NDArray[np.int64]:
        asked.append(1)
        return draw(self, *args)

    monkeypatch.setattr(Resampled, "draw", counted)
    made = run(many(), out=tmp_path, device="cpu")
    assert len(asked) == 1 + COHORT * len(made.rounds)  # and the one that is tried before


@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True], ids=["as it is", "if sites were kept"])
def test_memory_does_not_grow_over_the_rounds(
    many: Many, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    seen: dict[int, int] = {}

    def watch(progress: Any) -> None:
        if progress.round in (9, 39):
            gc.collect()
            seen[progress.round] = tracemalloc.get_traced_memory()[0]

    if kept:
        monkeypatch.setattr(Population, "keeps", lambda self, holder: True)
    scenario = many(rounds=40, evaluation={"every": 40, "metrics": ["loss"], "select_by": "loss"})
    tracemalloc.start()
    try:
        run(scenario, out=tmp_path, device="cpu", watch=watch)
    finally:
        tracemalloc.stop()
    per_round, images = (seen[39] - seen[9]) / 30, COHORT * 7 * 16 * 16 * 4
    assert per_round > images if kept else per_round < images / 10


def test_it_goes_on_after_it_was_killed_to_the_same_bits(many: Many, tmp_path: Path) -> None:
    class Died(Exception):
        pass

    def die(progress: Any) -> None:
        if progress.round == 2:
            raise Died

    scenario = many(cohort={"kind": "poisson", "sampling_rate": 5e-6})
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    with pytest.raises(Died):
        run(scenario, out=tmp_path, name="torn", device="cpu", watch=die)
    torn = resume(tmp_path / "torn")
    assert bits(torn.folder) == bits(whole.folder)
    assert torn.population == whole.population


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_no_bit(
    many: Many, tmp_path: Path, record: RunRecord, workers: int
) -> None:
    scanner = {"appearance": {"kind": "scanner", "severity": "severe"}}
    scenario = many(population=scanner)
    one = run(scenario, out=tmp_path, name="one", device="cpu")
    more = run(scenario, out=tmp_path, name="more", device="cpu", workers=workers)
    assert bits(more.folder) == bits(one.folder)
    assert bits(more.folder)["metrics.jsonl"] != bits(record.folder)["metrics.jsonl"]


def test_pooled_training_is_training_on_what_sites_draw_from(many: Many, tmp_path: Path) -> None:
    scenario = many(baselines=["pooled"], evaluation={"num_resamples": 10})
    made = run(scenario, out=tmp_path, device="cpu")
    values = [row for row in made.baselines if row["site"] == "pooled"]
    assert {(row["baseline"], row["split"]) for row in values} == {
        ("pooled", "validation"),
        ("pooled", "test"),
    }
    found = {(row["method"], row["site"]) for row in made.intervals}
    assert found >= {("federated", "server"), ("pooled", "pooled")}
    place = Workplace(scenario, open_population(scenario), torch.device("cpu"))
    assert len(place.examples(-1, "train")) == sum(made.population["sites"][0]["train"])


def test_the_record_says_who_draws_how_many_of_how_many(record: RunRecord) -> None:
    (server,) = record.population["sites"]
    assert server["name"] == "server"
    assert {split: sum(server[split]) for split in ("train", "validation", "test")} == {
        "train": 78,
        "validation": 18,
        "test": 24,
    }
    assert record.population["drawn"] == {
        "num_sites": MILLION,
        "examples_per_site": [5, 9],
        "pool": 78,
        "unit": "image",
        "alpha": 1.0,
    }
    assert record.population["appearance"] == record.population["num_mislabelled"] == {}
    assert len((record.folder / "population.json").read_bytes()) < 5000


def test_the_report_says_nothing_of_single_sites(record: RunRecord) -> None:
    assert {(r.site_mean, r.worst_site, r.num_sites) for r in rows.results(record)} == {
        (None, None, 0)
    }
    text = tables.to_markdown(record)
    assert "1,000,000 sites, each of which draws 5 to 9 of the same 78 training images" in text
    assert "No site has test images" in text
    assert "## Server after round 3" in text
    files = {file.name for file in write(record)}
    assert "label_distribution.png" in files
    assert "site_bars.png" not in files


def test_a_plan_counts_in_a_moment_what_a_run_does(
    many: Many, tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.probe.PROBE_S", 0.01)
    scenario = many(baselines=["pooled"])
    found = plan.make(scenario, open_population(scenario), out=tmp_path, device="cpu")
    assert found.problems == []
    assert (found.num_sites, found.cohort) == (MILLION, COHORT)
    assert found.sites == record.population["sites"]
    assert found.drawn == record.population["drawn"]
    assert found.bytes_down == record.rounds[0]["bytes_down"]
    assert found.steps == (1, 1)
    assert found.memory == 4 * 120 * 16 * 16
    assert found.duplicates is not None


def test_patients_are_drawn_and_held_out_whole(many: Many, tmp_path: Path) -> None:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 240}
    data = {"source": {**source, "images_per_patient": 3}, "task": "binary"}
    scenario = many(data=data, evaluation={"num_resamples": 10})
    population = open_population(scenario)
    made = run(scenario, out=tmp_path, device="cpu")
    assert made.population["drawn"]["unit"] == "patient"
    assert {row["unit"] for row in made.intervals} == {"patient"}
    for row in made.rounds:
        for name, num in row["num_examples"].items():
            mine = population.patients(int(name.removeprefix("site-")), "train")
            assert mine is not None
            assert num == len(mine) == 3 * len(set(mine.tolist()))
            assert 5 <= len(set(mine.tolist())) <= 9
    assert PATIENT in population.columns


def test_what_needs_every_site_is_refused(many: Many, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have no test images, so none can be held out"):
        leave_one_out.scenarios(many())
    with pytest.raises(InputError, match="share their images and have no number"):
        unpack(open_population(many()), tmp_path / "out", lambda done, total: None)
    assert not (tmp_path / "out").exists()
