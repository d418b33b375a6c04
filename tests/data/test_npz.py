"""Arrays of one's own: any usual form, whatever they are called; what is amiss is told by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from fedsim.data.npz import Npz
from fedsim.data.source import Dataset
from fedsim.errors import DataError
from fedsim.seeds import Streams

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 3, 8, 8), np.uint8)
LABELS = np.arange(12) % 3


def opened(path: Path, arrays: dict[str, Any], **options: Any) -> tuple[Npz, Dataset]:
    np.savez(path / "study.npz", **arrays)
    source = Npz(**{"path": path / "study.npz", "images": "x", "labels": "y", **options})
    source.facts()
    return source, source.open(Streams(0))


def everything(data: Dataset, split: str = "all") -> NDArray[np.uint8]:
    return data.images(split, np.arange(len(data.labels[split])))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PIXELS, PIXELS),
        (PIXELS.transpose(0, 2, 3, 1), PIXELS),
        (PIXELS[:, 0], PIXELS[:, :1]),
        (PIXELS[:, :1], PIXELS[:, :1]),
        (PIXELS[:, 0, :, :, None], PIXELS[:, :1]),
        (PIXELS.astype(np.uint16) * 257, PIXELS),
        (PIXELS.astype(np.float32) / 255, PIXELS),
        (PIXELS / 255, PIXELS),
        (PIXELS.astype(">u2") * 257, PIXELS),
    ],
)
def test_images_of_every_usual_form(
    tmp_path: Path, given: NDArray[Any], expected: NDArray[np.uint8]
) -> None:
    source, data = opened(tmp_path, {"x": given, "y": LABELS})
    np.testing.assert_array_equal(everything(data), expected)
    facts = source.facts()
    assert (facts.num_channels, facts.image_size) == (expected.shape[1], 8)
    assert facts.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(data.labels["all"], LABELS)


@pytest.mark.parametrize("labels", [LABELS[:, None].astype(np.uint8), LABELS == 1, LABELS])
def test_labels_of_every_usual_form(tmp_path: Path, labels: NDArray[Any]) -> None:
    _, data = opened(tmp_path, {"x": PIXELS, "y": labels})
    np.testing.assert_array_equal(data.labels["all"], labels.reshape(-1).astype(int))


def test_labels_can_be_texts(tmp_path: Path) -> None:
    words = np.array(["well", "ill", "worse"])[LABELS]
    source, data = opened(tmp_path, {"x": PIXELS, "y": words})
    assert source.facts().class_names == ("ill", "well", "worse")
    assert data.labels["all"][:3].tolist() == [1, 0, 2]
    order = ("well", "ill", "worse")
    _, data = opened(tmp_path, {"x": PIXELS, "y": words.astype("S")}, class_names=order)
    np.testing.assert_array_equal(data.labels["all"], LABELS)


def test_sites_patients_and_splits_have_arrays_of_any_name(tmp_path: Path) -> None:
    arrays = {
        "x": PIXELS,
        "y": LABELS,
        "where": np.array(["Basel", "Bern"])[np.arange(12) % 2],
        "pid": np.arange(12)[:, None] // 2,
        "fold": np.array(["train", "val", "test"]).repeat([6, 2, 4]),
    }
    source, data = opened(
        tmp_path, arrays, columns={"site": "where", "patient": "pid"}, splits="fold"
    )
    facts = source.facts()
    assert dict(facts.num_examples) == {"train": 6, "validation": 2, "test": 4}
    assert facts.columns["site"] == ("Basel", "Bern")
    assert data.columns["patient"]["test"].tolist() == ["4", "4", "5", "5"]
    np.testing.assert_array_equal(everything(data, "test"), PIXELS[8:])


def test_splits_may_have_arrays_of_their_own(tmp_path: Path) -> None:
    arrays = {"a": PIXELS[:9], "b": PIXELS[9:], "la": LABELS[:9], "lb": LABELS[9:]}
    source, data = opened(
        tmp_path,
        arrays,
        images={"test": "b", "train": "a"},
        labels={"train": "la", "test": "lb"},
    )
    assert dict(source.facts().num_examples) == {"train": 9, "test": 3}
    np.testing.assert_array_equal(everything(data, "test"), PIXELS[9:])


def test_the_checksum_is_of_what_is_used(tmp_path: Path) -> None:
    first = opened(tmp_path, {"x": PIXELS, "y": LABELS})[1].checksums
    unused = opened(tmp_path, {"x": PIXELS, "y": LABELS, "z": LABELS})[1].checksums
    assert first == unused
    changed = opened(tmp_path, {"x": PIXELS, "y": LABELS[::-1]})[1].checksums
    assert first != changed


def as_objects(values: list[Any]) -> NDArray[Any]:
    return np.array(values, dtype=object)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"xx": PIXELS, "y": LABELS}, {}, "has no array 'x'; did you mean 'xx'"),
        ({"x": PIXELS, "y": LABELS[:5]}, {}, "x has .* images, but y 5 labels"),
        ({"x": as_objects([1] * 12), "y": LABELS}, {}, "x holds Python objects"),
        ({"x": PIXELS, "y": as_objects(["a"] * 12)}, {}, "y holds Python objects"),
        ({"x": PIXELS.astype(np.int64), "y": LABELS}, {}, "x is int64, expected uint8"),
        ({"x": PIXELS[:, :, :4], "y": LABELS}, {}, "expected .n, size, size"),
        ({"x": PIXELS[:, :2], "y": LABELS}, {}, "expected .n, size, size"),
        ({"x": PIXELS / 127, "y": LABELS}, {}, "not from 0 to 1"),
        ({"x": PIXELS * np.nan, "y": LABELS}, {}, "not from 0 to 1"),
        ({"x": PIXELS, "y": LABELS / 2}, {}, "y is float64 .* expected whole numbers or texts"),
        ({"x": PIXELS, "y": LABELS - 1}, {}, "labels reach from -1 to 1, expected 0 to 1"),
        ({"x": PIXELS, "y": LABELS}, {"class_names": ("a", "b")}, "reach from 0 to 2"),
        (
            {"x": PIXELS, "y": LABELS, "f": np.array(["dev"] * 12)},
            {"splits": "f"},
            "f has 'dev', expected train, validation and test",
        ),
        (
            {"x": PIXELS, "y": LABELS, "s": np.array(["A"] * 3)},
            {"columns": {"site": "s"}},
            "s has 3 entries for 12 examples",
        ),
    ],
)
def test_what_is_amiss_is_told_by_name(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path, arrays, **options)
    assert str(tmp_path / "study.npz") in str(caught.value)


def test_files_that_are_damaged_or_missing_are_told(tmp_path: Path) -> None:
    source = Npz(path=tmp_path / "study.npz", images="x", labels="y")
    with pytest.raises(DataError, match="there is no such file"):
        source.facts()
    np.savez(tmp_path / "study.npz", x=PIXELS, y=LABELS)
    whole = (tmp_path / "study.npz").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no zip", whole[:300] + b"\xff" + whole[301:]):
        (tmp_path / "study.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"study\.npz"):
            source.open(Streams(0))


@pytest.mark.parametrize(
    "keys",
    [
        {"images": {"train": "x"}, "labels": "y"},
        {"images": {"test": "x"}, "labels": {"test": "y"}},
        {"images": {"train": "x"}, "labels": {"train": "y"}, "splits": "z"},
        {"images": "x", "labels": "y", "columns": {"site": {"train": "s"}}},
    ],
)
def test_names_must_be_of_one_form(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Npz(path="study.npz", **keys)
