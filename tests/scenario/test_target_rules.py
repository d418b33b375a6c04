"""A regression has a number to learn and what suits it; everything else is refused by key."""

from __future__ import annotations

from typing import Any

import pytest

from clients.targets import CLASSES, Quantity

REGRESSION = """\
version: 1
name: study
rounds: 4
data:
  source: {kind: synthetic, anatomy: fundus, image_size: 16, num_examples: 200}
  task: regression
  target: lesion_area
population: {num_sites: 3}
client: {epochs: 1, batch_size: 16}
"""
MEDMNIST = "{kind: medmnist, name: retinamnist}"
SYNTHETIC = "{kind: synthetic, anatomy: fundus, image_size: 16, num_examples: 200}"


def test_what_is_left_open_suits_the_task(author: Any) -> None:
    scenario = author.load_text(REGRESSION)
    assert scenario.client.objective.kind == "squared_error"
    assert scenario.evaluation.metrics == ("rmse", "mae", "r2", "spearman")
    assert scenario.evaluation.select_by == "rmse"
    assert scenario.data.num_outputs == 1
    assert scenario.data.predicted == Quantity(0, 1)
    classes = author.load()
    assert classes.client.objective.kind == "cross_entropy"
    assert classes.evaluation.select_by == "auroc"
    assert classes.data.num_outputs == 2
    assert classes.data.predicted is CLASSES


def test_what_is_said_stays(author: Any) -> None:
    changes = ("evaluation.metrics=[mae, r2]", "evaluation.select_by=r2", "client.epochs=2")
    scenario = author.load_text(REGRESSION, changes=(*changes, "data.target_range=[0, 20]"))
    assert scenario.evaluation.metrics == ("mae", "r2")
    assert scenario.evaluation.select_by == "r2"
    assert scenario.evaluation.num_resamples == 400
    assert scenario.client.epochs == 2
    assert scenario.data.predicted == Quantity(0, 20)


def test_defaults_written_out_make_the_same_scenario(author: Any) -> None:
    from fedsim.scenario import from_data

    scenario = author.load_text(REGRESSION)
    again = from_data(scenario.resolved(), "again")
    assert again == scenario
    assert again.digest == scenario.digest
    other = author.load_text(REGRESSION, changes=("data.target_range=[0, 20]",))
    assert other.digest != scenario.digest


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        (["data.target=null"], "data.target", "learns a real number: name one of lesion_area"),
        (
            ["data.target=lesion"],
            "data.target",
            "there is no 'lesion'; did you mean 'lesion_area'?",
        ),
        ([f"data.source={MEDMNIST}"], "data.target", "the source medmnist has none: use synthetic"),
        (["data.target_range=[5, 5]"], "data.target_range", "expected a lower and a higher number"),
        (
            ["client.objective={kind: cross_entropy}"],
            "client.objective",
            "cross_entropy learns classes, and this task is a regression",
        ),
        (["client.objective={kind: margin}"], "client.objective", "margin learns classes"),
        (["client.objective={kind: sigma_damp}"], "client.objective", "sigma_damp learns classes"),
        (
            ["evaluation.metrics=[rmse, auroc]"],
            "evaluation.metrics.1",
            "'auroc' is not for a regression task",
        ),
        (["evaluation.select_by=loss"], "evaluation.select_by", "'loss' is not among"),
        (
            ["population.label_noise=[{kind: symmetric, rate: 0.2}]"],
            "population.label_noise",
            "changes classes, and this task learns a real number",
        ),
        (
            ["population.adversaries=[{kind: label_flip, share: 0.4}]"],
            "population.adversaries.0",
            "use an attack on updates, such as sign_flip",
        ),
        (
            [f"evaluation.external=[{{name: elsewhere, source: {MEDMNIST}}}]"],
            "evaluation.external.0.source",
            "there is no 'lesion_area', and the source medmnist has none",
        ),
    ],
)
def test_what_does_not_suit_is_refused(
    author: Any, changes: list[str], place: str, message: str
) -> None:
    told = author.error(lambda: author.load_text(REGRESSION, changes=tuple(changes)))
    (found,) = (part for part in told.split("\n--set ") if message in part)
    assert f": {place}\n" in found


def test_the_place_in_the_file_is_told(author: Any) -> None:
    told = author.complaint_about(REGRESSION.replace("target: lesion_area", "target: area"))
    assert told.startswith("FILE:7:3: data.target\n  there is no 'area'")


def test_numbers_are_not_for_classes(author: Any) -> None:
    told = author.complaint(
        changes=("client.objective={kind: squared_error}", "evaluation.metrics=[auroc, mse]")
    )
    assert "client.objective\n  squared_error learns a real number, and this task is binary" in told
    assert "'mse' is not for a binary task" in told
    for key, value in (("target", "lesion_area"), ("target_range", "[0, 1]")):
        told = author.complaint(changes=(f"data.{key}={value}",))
        assert f"data.{key}\n  is for task: regression, this one is binary: leave it out" in told
