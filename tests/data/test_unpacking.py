"""What is unpacked comes back through a manifest as the same pixels, labels, sites and splits."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedsim.data.source import SPLITS
from fedsim.data.unpacking import unpack
from fedsim.errors import InputError
from fedsim.scenario import Scenario, open_population


@pytest.mark.parametrize("anatomy", ["chest", "fundus"])
def test_unpacked_images_come_back_through_their_manifest(
    tiny: Callable[..., Scenario], tmp_path: Path, anatomy: str
) -> None:
    source = {"kind": "synthetic", "anatomy": anatomy, "image_size": 16, "num_examples": 120}
    task = "binary" if anatomy == "chest" else "ordinal"
    shifted = {"num_sites": 3, "appearance": {"kind": "scanner", "severity": "severe"}}
    before = open_population(tiny(data={"source": source, "task": task}, population=shifted))
    told: list[tuple[int, int]] = []
    assert unpack(before, tmp_path / "out", lambda *counts: told.append(counts)) == 120
    assert told == sorted(told)
    assert told[-1] == (120, 120)
    own = {
        "kind": "images",
        "path": str(tmp_path / "out" / "manifest.csv"),
        "image_size": 16,
        "num_channels": 1 if anatomy == "chest" else 3,
        "class_names": list(before.class_names),
        "ordinal": task == "ordinal",
    }
    after = open_population(
        tiny(
            data={"source": own, "task": task},
            population={"partition": {"kind": "by_column"}, "held_out": "official"},
        )
    )
    assert after.names == before.names
    for site in range(3):
        for split in SPLITS:
            np.testing.assert_array_equal(
                after.examples(site, split).images, before.examples(site, split).images
            )
            np.testing.assert_array_equal(
                after.examples(site, split).labels, before.examples(site, split).labels
            )


def test_a_folder_that_holds_something_is_left_alone(
    tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    population = open_population(tiny())
    (tmp_path / "thesis.txt").write_text("precious")
    for folder in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(InputError, match="exists and is not empty"):
            unpack(population, folder, lambda done, total: None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_is_left_of_a_failure(tiny: Callable[..., Scenario], tmp_path: Path) -> None:
    def fail(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="cannot be made: No space left"):
        unpack(open_population(tiny()), tmp_path / "out", fail)
    assert list(tmp_path.iterdir()) == []


def test_attributes_travel_along_and_names_become_folders(
    tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    pixels, labels = np.zeros((12, 8, 8), np.uint8), np.arange(12) % 2
    np.savez(
        tmp_path / "s.npz",
        x=pixels,
        y=np.array(["a/b", "c"])[labels],
        s=np.array(["Basel: East", "../Bern"])[labels],
        p=np.arange(12).astype(str),
        f=np.array(["f", "m"]).repeat(6),
    )
    source = {
        "kind": "npz",
        "path": str(tmp_path / "s.npz"),
        "images": "x",
        "labels": "y",
        "columns": {"site": "s", "patient": "p", "sex": "f"},
    }
    scenario = tiny(
        data={"source": source, "task": "binary"},
        population={
            "partition": {"kind": "by_column"},
            "held_out": {"validation": 0.3, "test": 0.3},
        },
        evaluation={"metrics": ["loss"], "select_by": "loss"},
    )
    unpack(open_population(scenario), tmp_path / "out", lambda done, total: None)
    with (tmp_path / "out" / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "site", "patient", "sex", "split"]
    assert {row["site"] for row in rows} == {"Basel: East", "../Bern"}
    for row in rows:
        file_path = (tmp_path / "out" / row["path"]).resolve()
        assert file_path.is_file()
        assert file_path.is_relative_to(tmp_path / "out")
        assert row["sex"] == ("f" if int(row["patient"]) < 6 else "m")


def test_a_column_that_the_manifest_needs_is_refused(
    tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    numbers = np.arange(24)
    pixels = np.zeros((24, 8, 8), np.uint8)
    np.savez(tmp_path / "s.npz", x=pixels, y=numbers % 2, old=numbers.astype(str))
    source = {
        "kind": "npz",
        "path": str(tmp_path / "s.npz"),
        "images": "x",
        "labels": "y",
        "columns": {"Label": "old"},
    }
    population = open_population(
        tiny(
            data={"source": source, "task": "binary"},
            population={"num_sites": 1},
            evaluation={"metrics": ["loss"], "select_by": "loss"},
        )
    )
    with pytest.raises(InputError, match="the columns Label have names that the manifest needs"):
        unpack(population, tmp_path / "out", lambda done, total: None)
    assert not (tmp_path / "out").exists()
