"""Real numbers of one's own, in a column of a manifest or an array of an npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from fedsim.data.images import Images
from fedsim.data.npz import Npz
from fedsim.errors import DataError
from fedsim.seeds import Streams

PIXELS = np.zeros((6, 16, 16), np.uint8)
NUMBERS = np.array([0.1, -2.5, 3e3, 4, 5, 6])


def listed(folder: Path, cells: list[str], **options: Any) -> Images:
    lines = ["path,label,split,ef"]
    for number, cell in enumerate(cells):
        Image.fromarray(PIXELS[number]).save(folder / f"{number}.png")
        split = "test" if number > 3 else "train"
        lines.append(f"{number}.png,{number % 2},{split},{cell}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return Images(**{"path": folder / "m.csv", "image_size": 16, "targets": ("ef",), **options})


def test_a_column_of_numbers_is_a_target_and_no_attribute(tmp_path: Path) -> None:
    source = listed(tmp_path, ["0.1", "-2.5", "3e3", "4", "5", "6"])
    assert dict(source.facts().targets) == {"ef": ""}
    assert "ef" not in source.facts().columns
    found = source.open(Streams(0)).targets["ef"]()
    assert found["train"].tobytes() == NUMBERS[:4].astype(np.float32).tobytes()
    assert found["test"].tobytes() == NUMBERS[4:].astype(np.float32).tobytes()


def test_what_is_no_number_is_told_by_picture(tmp_path: Path) -> None:
    source = listed(tmp_path, ["0.1", "high", "", "nan", "1e60", "6"])
    with pytest.raises(DataError) as caught:
        source.open(Streams(0)).targets["ef"]()
    told = str(caught.value).splitlines()
    assert told[0].endswith("m.csv: ef of 1.png: expected a number, got 'high'")
    assert [line.split(" of ")[1][:5] for line in told] == ["1.png", "2.png", "3.png", "4.png"]


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="targets: there is no column 'age'; it has ef"):
        listed(tmp_path, ["1"], targets=("age",)).facts()


def arrays(folder: Path, **more: Any) -> Path:
    np.savez(folder / "a.npz", x=PIXELS, y=np.arange(6) % 2, s=["train"] * 4 + ["test"] * 2, **more)
    return folder / "a.npz"


def test_an_array_of_numbers_is_a_target(tmp_path: Path) -> None:
    path = arrays(tmp_path, ef=NUMBERS[:, None])
    source = Npz(path=path, images="x", labels="y", splits="s", targets={"fraction": "ef"})
    assert dict(source.facts().targets) == {"fraction": ""}
    data = source.open(Streams(0))
    assert data.targets["fraction"]()["test"].tolist() == [5, 6]
    assert data.targets["fraction"]()["train"].dtype == np.float32
    without = Npz(path=path, images="x", labels="y", splits="s").open(Streams(0))
    assert without.checksums != data.checksums


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (NUMBERS[:5], "expected a number for each of 6 examples"),
        (np.array(list("abcdef")), "expected a number for each of 6 examples"),
        (np.array([1, 2, np.nan, 4, np.inf, 1e60]), "has 3 values that are infinite or not"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, given: Any, message: str) -> None:
    source = Npz(path=arrays(tmp_path, ef=given), images="x", labels="y", targets={"f": "ef"})
    with pytest.raises(DataError, match=message):
        source.facts()


def test_names_per_split_are_for_all_arrays(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="one array, or one per split"):
        Npz(path=arrays(tmp_path), images="x", labels="y", targets={"f": {"train": "ef"}})
