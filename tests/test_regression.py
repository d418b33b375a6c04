"""A regression from end to end: it learns, repeats its bits, and its results are told as such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import fedsim
from fedsim.data.source import HELD_OUT
from fedsim.flower.local_training import train
from fedsim.flower.workplace import Workplace
from fedsim.records import RunRecord
from fedsim.scenario import Scenario, open_population
from fedsim.study.conclusion import write_report

FILES = ("rounds.jsonl", "metrics.jsonl", "baselines.jsonl", "intervals.jsonl")
SECTIONS: dict[str, Any] = {
    "rounds": 8,
    "data": {
        "source": {"kind": "synthetic", "anatomy": "fundus", "image_size": 16, "num_examples": 240},
        "task": "regression",
        "target": "lesion_area",
        "target_range": [0, 5],
        "normalisation": {"kind": "per_image"},
    },
    "model": {"kind": "small_cnn", "widths": [8, 16]},
    "client": {
        "epochs": 2,
        "batch_size": 16,
        "optimizer": {"kind": "adam", "learning_rate": 0.02},
    },
    "evaluation": {"num_resamples": 30},
    "baselines": ["pooled", "local"],
}
Make = Callable[..., Scenario]


@pytest.fixture(scope="module")
def scenario(tiny: Make) -> Scenario:
    return tiny(**SECTIONS)


@pytest.fixture(scope="module")
def record(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return fedsim.run(scenario, out=tmp_path_factory.mktemp("regression"), device="cpu")


def bits(folder: Path) -> dict[str, bytes]:
    files = [folder / name for name in FILES if (folder / name).exists()]
    files += sorted((folder / "checkpoints").iterdir())
    files += sorted((folder / "predictions").iterdir())
    return {file.name: file.read_bytes() for file in files}


def test_it_learns(record: RunRecord) -> None:
    (first, *_, last) = [
        row["value"]
        for row in record.metrics
        if (row["split"], row["site"], row["metric"]) == ("test", "pooled", "r2")
    ]
    assert first < 0
    assert last > 0.25  # the mean squared error is below three quarters of the variance
    assert record.selection.metric == "rmse"
    assert not record.selection.higher_is_better


def test_predictions_are_in_the_unit_of_the_number_and_truths_are_its_bits(
    scenario: Scenario, record: RunRecord
) -> None:
    population = open_population(scenario)
    found = record.predictions(record.selection.final_round)
    errors = []
    for split in HELD_OUT:
        for site, name in enumerate(population.names):
            scores, truth = found[split][name]
            assert scores.shape == (len(truth), 1)
            assert truth.dtype == np.float32
            assert truth.tobytes() == population.truth(site, split).tobytes()
            errors += list(scores[:, 0] - truth) if split == "test" else []
    (rmse,) = (
        row["value"]
        for row in record.metrics
        if (row["round"], row["split"], row["site"], row["metric"])
        == (scenario.rounds, "test", "pooled", "rmse")
    )
    assert rmse == pytest.approx(np.sqrt(np.mean(np.square(errors, dtype=np.float64))))


def test_the_loss_decomposition_and_the_yardsticks_are_there(record: RunRecord) -> None:
    terms = record.rounds[-1]["loss_decomposition"]
    assert terms["global_loss"] == pytest.approx(
        terms["local_loss"] + terms["distribution_shift_loss"] + terms["aggregation_loss"]
    )
    assert 0 < terms["global_loss"] < 1  # of numbers that are learned as 0 to about 3
    kinds = {(row["baseline"], row["metric"]) for row in record.baselines}
    assert {(k, m) for k in ("pooled", "local") for m in ("rmse", "mae", "r2", "spearman")} <= kinds
    intervals = {row["metric"] for row in record.intervals if row["site"] == "pooled"}
    assert intervals == {"rmse", "mae", "r2", "spearman"}


def test_a_run_that_died_goes_on_to_the_same_bits(
    scenario: Scenario, record: RunRecord, broken: Callable[[Scenario, int], Path]
) -> None:
    folder = broken(scenario, 3)
    fedsim.resume(folder)
    assert bits(folder) == bits(record.folder)


@pytest.mark.slow
def test_workers_give_the_same_bits(scenario: Scenario, record: RunRecord, tmp_path: Path) -> None:
    other = fedsim.run(scenario, out=tmp_path, device="cpu", workers=2)
    assert bits(other.folder) == bits(record.folder)


def test_the_report_shows_numbers_and_no_probabilities(record: RunRecord) -> None:
    fedsim.write_report(record)
    folder = record.folder / "report"
    assert (folder / "predicted_against_true.png").stat().st_size > 5000
    assert not (folder / "calibration.png").exists()
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "A point for each test image at its true and its predicted number" in page
    assert "regression: lesion_area (% of the image), learned as 0 at 0 and 1 at 5" in page
    assert "R²" in page
    for word in ("Reliability", "Calibration", "AUROC", "nats", "of every class"):
        assert word not in page
    assert "3 of 3 sites with at least 5 test images" in page


def test_pictures_get_a_number(record: RunRecord, scenario: Scenario, tmp_path: Path) -> None:
    population = open_population(scenario)
    positions = population.indices[0]["test"][:4]
    for number, image in enumerate(population.shown(0, positions)):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{number}.png")
    scores, _ = record.predictions(record.selection.best_round)["test"][population.names[0]]
    for folder in (record.folder, fedsim.export(record.folder, out=tmp_path / "export")):
        rows = fedsim.predict(folder, tmp_path, device="cpu")
        assert [list(row) for row in rows] == [["path", "predicted"]] * 4
        found = [row["predicted"] for row in rows]
        assert found == pytest.approx(scores[:4, 0].tolist(), abs=1e-4)


def test_the_model_card_says_how_the_number_is_read(record: RunRecord, tmp_path: Path) -> None:
    folder = fedsim.export(record.folder, out=tmp_path / "export")
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "predicts a number, lesion_area (% of the image)" in card
    assert "is 0 where lesion_area (% of the image) is 0 and 1 where it is 5" in card
    for word in ("logit", "softmax", "probabilities", "Probabilities"):
        assert word not in card
    network = torch.export.load(folder / "model.pt2").module()
    images = torch.rand(2, 3, 16, 16)
    start = "numbers = 0.0 + 5.0 * network(i"
    line = next(row for row in card.split("\n") if row.startswith(start))
    space: dict[str, Any] = {"network": network, "images": images}
    exec(line, space)
    torch.testing.assert_close(space["numbers"], 5 * network(images)[:, 0])


def test_q_fed_avg_and_tests_elsewhere_go_by_the_squared_error(tiny: Make, tmp_path: Path) -> None:
    """The losses that q-FedAvg weighs by are those of the objective before the first step."""
    elsewhere = {"name": "elsewhere", "source": {**SECTIONS["data"]["source"], "num_examples": 60}}
    scenario = tiny(
        **{
            **SECTIONS,
            "rounds": 2,
            "baselines": [],
            "client": {**SECTIONS["client"], "optimizer": {"kind": "sgd", "learning_rate": 0.1}},
            "strategy": {"kind": "q_fed_avg", "learning_rate": 0.1},
            "population": {"num_sites": 4, "holdout_sites": ["site-03"]},
            "evaluation": {"num_resamples": 0, "external": [elsewhere]},
        }
    )
    population = open_population(scenario)
    workplace = Workplace(scenario, population, torch.device("cpu"))
    came = workplace.network.initial
    trained = train(workplace, 1, 1, came)
    outputs = workplace.network.predict(came, workplace.examples(1, "train"))[0][:, 0] / 5
    learned = torch.from_numpy(population.truth(1, "train") / 5)
    assert trained.start_loss == pytest.approx(float((outputs - learned).square().mean()), rel=1e-5)
    record = fedsim.run(scenario, out=tmp_path, device="cpu")
    found = record.predictions(record.selection.final_round)["external"]
    for part in population.external:
        truth = found[part.name][1]
        assert truth.tobytes() == part.truth.tobytes()
        assert truth.dtype == np.float32
    assert [part.name for part in population.external] == ["site-03", "elsewhere"]


@pytest.mark.slow
def test_a_study_compares_by_a_metric_of_numbers(tiny: Make, tmp_path: Path) -> None:
    base = tiny(**{**SECTIONS, "rounds": 2}).resolved()
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    study = {
        "version": 1,
        "name": "numbers",
        "question": "Which rule errs less?",
        "base": "base.yaml",
        "primary": {
            "metric": "rmse",
            "reference": "mean",
            "smallest_difference_of_interest": 0.1,
        },
        "methods": {
            "mean": {},
            "principal": {"set": {"strategy": {"kind": "principal_gradient"}}},
        },
        "seeds": 2,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    design = fedsim.load_study(tmp_path / "study.yaml")
    record = fedsim.run_study(design, out=tmp_path / "runs", device="cpu")
    page = write_report(record).read_text(encoding="utf-8")
    assert "root mean squared error" in page
    assert "The models predict a number and no probabilities" in page
    assert "Decision curves" not in page
