"""Every scenario that comes with fedsim runs, and twins differ in nothing but their method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedsim
from fedsim.data.unpacking import unpack
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams
from fedsim.study.load import is_study_file
from fedsim.study.study_file import Study

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
OWN = FOLDER / "own_images.yaml"
STUDIES = sorted(file for file in FOLDER.glob("*.yaml") if is_study_file(file))
FILES = sorted(file for file in FOLDER.glob("*.yaml") if file not in (OWN, *STUDIES))
SYNTHETIC = {"quickstart", "regression", "bag_regression", "patient_dp"}
FEW = ["data.source.num_examples=200"]
TWINS = sorted(file.stem.removesuffix("_fedld") for file in FOLDER.glob("*_fedld.yaml"))
each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_scenarios_are_here() -> None:
    assert len(FILES) >= 7
    assert len(TWINS) >= 3
    found = {path.suffix for path in FOLDER.iterdir() if path.is_file()}
    assert found == {".yaml", ".json", ".md"}


def test_editors_find_the_schema_that_fedsim_prints() -> None:
    """If this fails, write it anew: fedsim schema [--study] > scenarios/schema.json."""
    for name, contract in (("schema", Scenario), ("study_schema", Study)):
        text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert json.loads(text) == contract.model_json_schema()


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_study_is_valid_and_says_what_it_is(file: Path) -> None:
    design = fedsim.load_study(file)
    assert design.study.name == file.stem
    assert design.notes() == []
    schema, command = file.read_text(encoding="utf-8").split("\n")[:2]
    assert schema == "# yaml-language-server: $schema=study_schema.json"
    assert f"fedsim study scenarios/{file.name}" in command
    real = design.base.data.source.kind != "synthetic"
    assert real == ("FEDSIM_DATA_DIR=" in command)


@each
def test_it_says_what_it_is(file: Path) -> None:
    scenario = fedsim.load_scenario(file)
    assert scenario.name == file.stem
    assert scenario.description
    schema, command = file.read_text(encoding="utf-8").split("\n")[:2]
    assert schema == "# yaml-language-server: $schema=schema.json"
    assert f"fedsim run scenarios/{file.name}" in command
    real = scenario.data.source.kind != "synthetic"
    assert real == ("FEDSIM_DATA_DIR=" in command) == (file.stem not in SYNTHETIC)


def first_round(file: Path, out: Path) -> fedsim.RunRecord:
    changes = ["rounds=1", "evaluation.num_resamples=10", *(FEW if file.stem in SYNTHETIC else [])]
    scenario = fedsim.load_scenario(file, changes)
    return fedsim.run(scenario, out=out, device="cpu")


def check(record: fedsim.RunRecord, file: Path) -> None:
    scenario = fedsim.load_scenario(file)
    assert record.finished
    assert record.selection.metric == scenario.evaluation.select_by
    (row,) = record.rounds
    if scenario.round_policy.kind == "synchronous":
        cohort = scenario.cohort.draw(len(scenario.site_names), 1, Streams(scenario.seed))
        assert len(row["cohort"]) + len(row["absent"]) == len(cohort)
    assert np.isfinite(row["train_loss"])
    assert (row["virtual"] is not None) == bool(scenario.population.devices)
    terms = row["loss_decomposition"]
    assert (terms is not None) == scenario.evaluation.loss_decomposition
    if terms is not None:
        assert terms["global_loss"] == pytest.approx(
            sum(
                terms[term]
                for term in ("local_loss", "distribution_shift_loss", "aggregation_loss")
            )
        )
    pooled = [r for r in record.metrics if r["site"] == "pooled"]
    asked = {
        (n, s, m)
        for n in (0, 1)
        for s in ("validation", "test")
        for m in scenario.evaluation.metrics
    }
    assert {(r["round"], r["split"], r["metric"]) for r in pooled} == asked
    told = [r for r in pooled if r["split"] == "test" or r["metric"] == record.selection.metric]
    assert all(r["value"] is not None for r in told)
    fedsim.write_report(record)
    assert list((record.folder / "report").iterdir())


@pytest.mark.parametrize("name", sorted(SYNTHETIC))
def test_a_round_on_synthetic_images(name: str, tmp_path: Path) -> None:
    file = FOLDER / f"{name}.yaml"
    check(first_round(file, tmp_path), file)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(f, id=f.stem, marks=[] if "retina" in f.stem else [pytest.mark.slow])
        for f in FILES
        if f.stem not in SYNTHETIC
    ],
)
@pytest.mark.usefixtures("data_folder")
def test_a_round_on_real_images(file: Path, tmp_path: Path) -> None:
    check(first_round(file, tmp_path), file)


@pytest.mark.slow
def test_own_pictures_go_from_a_folder_to_a_report(data_folder: Path, tmp_path: Path) -> None:
    """As its header says: pictures out of real films, then the scenario on them."""
    chest = fedsim.load_scenario(FOLDER / "pneumonia_fedavg.yaml", ["population.num_sites=3"])
    unpack(open_population(chest), tmp_path / "chest", lambda done, total: None)
    (tmp_path / "scenarios").mkdir()
    copy = tmp_path / "scenarios" / OWN.name
    copy.write_bytes(OWN.read_bytes())
    check(first_round(copy, tmp_path), copy)


@pytest.mark.parametrize("name", TWINS)
def test_twins_differ_in_their_method_alone(name: str) -> None:
    def content(scenario: Scenario) -> tuple[dict[str, Any], dict[str, Any]]:
        whole = scenario.resolved()
        method = {
            "name": whole.pop("name"),
            "description": whole.pop("description"),
            "strategy": whole.pop("strategy"),
            "objective": whole["client"].pop("objective"),
        }
        return whole, method

    scenarios = [fedsim.load_scenario(FOLDER / f"{name}_{m}.yaml") for m in ("fedld", "fedavg")]
    (fedld, its), (fedavg, theirs) = map(content, scenarios)
    assert fedld == fedavg
    assert its["strategy"]["kind"] == "principal_gradient"
    assert its["objective"]["kind"] == "margin"
    assert theirs["strategy"]["kind"] == "weighted_mean"
    assert theirs["objective"]["kind"] == "cross_entropy"
    assert scenarios[0].digest != scenarios[1].digest
