"""A report shows images only where anyone may see them, and only those that the run saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedsim.data.sources import BUILTIN
from fedsim.plugins import kind_of
from fedsim.report import samples
from fedsim.scenario import Scenario, open_population


@pytest.fixture
def record(tiny: Callable[..., Scenario], tmp_path: Path) -> Any:
    population = open_population(tiny())
    return SimpleNamespace(
        folder=tmp_path,
        scenario=tiny().resolved(),
        selection=SimpleNamespace(final_round=3),
        population={
            "sites": population.table(),
            "checksums": dict(population.checksums),
            "images": {"synthetic": True},
        },
    )


def test_images_that_are_at_hand_are_drawn(record: Any) -> None:
    sheet = samples.contact_sheet_of(record)
    assert sheet is not None
    assert sheet.startswith(b"<svg")
    assert sheet == samples.contact_sheet_of(record)


def test_images_of_patients_are_not_drawn() -> None:
    assert {kind_of(source) for source in BUILTIN if source.public} == {"synthetic", "medmnist"}


def test_training_images_of_a_run_whose_privacy_is_strict_are_not_drawn(record: Any) -> None:
    mechanism = {"kind": "example_level", "clip_norm": 1.0, "noise_multiplier": 1.0}
    record.scenario["evaluation"]["loss_decomposition"] = False
    record.scenario["privacy"] = {"mechanism": mechanism, "delta": 1e-3}
    assert samples.contact_sheet_of(record) is not None
    record.scenario["privacy"]["strict"] = True
    (record.folder / "report").mkdir()
    (record.folder / "report" / samples.FILE).write_bytes(b"<svg/>")
    assert samples.contact_sheet_of(record) is None


@pytest.mark.parametrize("changed", ["checksums", "sites", "public"])
def test_other_images_than_those_of_the_run_are_not_shown(
    record: Any, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if changed == "public":
        monkeypatch.setattr("fedsim.data.synthetic.Synthetic.public", False)
    elif changed == "checksums":
        record.population["checksums"] = dict.fromkeys(record.population["checksums"], "other")
    else:
        record.population["sites"] = record.population["sites"][1:]
    assert samples.contact_sheet_of(record) is None


def test_where_they_are_not_at_hand_the_earlier_sheet_stays(record: Any) -> None:
    record.scenario["data"]["source"] = {"kind": "of_a_package_that_is_gone"}
    assert samples.contact_sheet_of(record) is None
    (record.folder / "report").mkdir()
    (record.folder / "report" / samples.FILE).write_bytes(b"earlier")
    assert samples.contact_sheet_of(record) == b"earlier"
