"""Arrays of one's own: any usual form, whatever they are called; what is amiss is told by name."""

from __future__ import annotations

import io
import itertools
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from fedsim.data import npz, npz_file
from fedsim.data.npz import Npz
from fedsim.data.source import Dataset
from fedsim.errors import DataError
from fedsim.seeds import Streams

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 3, 8, 8), np.uint8)
LABELS = np.arange(12) % 3
CLOCK = itertools.count(1)
"""Times of change: a file system's own clock is too coarse for files written one upon another."""


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
    def checksum(**changes: Any) -> str:
        fold = np.array(["train", "test"])[np.arange(12) % 2]
        arrays = {"x": PIXELS, "y": LABELS, "s": np.array(["A"] * 12), "fold": fold, **changes}
        data = opened(tmp_path, arrays, columns={"site": "s"}, splits="fold")[1]
        assert list(data.checksums) == ["study.npz"]
        return data.checksums["study.npz"]

    first = checksum()
    assert first.startswith("arrays-sha256:")
    assert checksum(unused=LABELS) == first
    assert checksum(y=LABELS.astype(np.uint8)) == first
    elsewhere = np.array(["A"] * 11 + ["B"])
    alike = np.array(["train", "test"])[(np.arange(12) // 3 + 1) % 2]
    changes: list[dict[str, Any]] = [
        {"x": PIXELS ^ 1},
        {"y": (LABELS + 1) % 3},
        {"s": elsewhere},
        {"fold": alike},
    ]
    assert len({first, *(checksum(**change) for change in changes)}) == 5


def test_facts_read_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = opened(tmp_path, {"x": PIXELS, "y": LABELS})
    os.utime(source.path, ns=(0, 1))
    read, keys = npz_file.array, []

    def noted(path: Path, key: str) -> Any:
        keys.append(key)
        return read(path, key)

    monkeypatch.setattr(npz_file, "array", noted)
    source.facts()
    source.facts()
    assert keys == ["y"], "once for each state of the file"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    opened(tmp_path, {"x": PIXELS, "y": LABELS})
    _, data = opened(tmp_path, {"x": PIXELS[::-1], "y": LABELS[::-1], "z": LABELS})
    np.testing.assert_array_equal(everything(data), PIXELS[::-1])
    np.testing.assert_array_equal(data.labels["all"], LABELS[::-1])


@given(
    wide=st.lists(st.integers(0, 65535), min_size=4, max_size=4),
    floats=st.lists(st.floats(0, 1, width=16), min_size=4, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_pixels_are_scaled_to_the_nearest_of_8_bits(wide: list[int], floats: list[float]) -> None:
    found = npz._eight_bits(Path(), "x", np.array(wide, np.uint16))
    assert (abs(found * 257.0 - wide) <= 257 / 2).all()
    for dtype in (np.float16, np.float32, np.float64):
        found = npz._eight_bits(Path(), "x", np.array(floats, dtype))
        assert (abs(found / 255.0 - floats) <= 0.5001 / 255).all()


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
        ({"x": PIXELS[0, 0], "y": LABELS[:8]}, {}, "expected .n, size, size"),
        ({"x": PIXELS.astype(np.uint32), "y": LABELS}, {}, "x is uint32, expected uint8"),
        ({"x": PIXELS > 9, "y": LABELS}, {}, "x is bool, expected uint8"),
        ({"x": PIXELS * 0.5, "y": LABELS}, {}, "x has floats from 0 to 127.5, expected 0 to 1: di"),
        ({"x": PIXELS / -255, "y": LABELS}, {}, "x has floats from -1 to -0, expected 0 to 1"),
        (
            {"x": np.where(PIXELS[0, 0, 0, 0] == PIXELS, np.nan, 0.5), "y": LABELS},
            {},
            f"x has {(PIXELS[0, 0, 0, 0] == PIXELS).sum()} values that are infinite or not a numb",
        ),
        ({"x": np.full((12, 8, 8), np.inf), "y": LABELS}, {}, "x has 768 values that are infin"),
        ({"x": PIXELS, "y": LABELS / 2}, {}, "y is float64 .* expected whole numbers or texts"),
        ({"x": PIXELS, "y": np.eye(12)[LABELS].astype(int)}, {}, "y is int64 .12, 12., expected"),
        ({"x": PIXELS, "y": LABELS - 1}, {}, "y has labels from -1 to 1, expected 0 to 2"),
        ({"x": PIXELS, "y": LABELS + 1}, {}, "y has labels from 1 to 3, expected 0 to 2, .* renum"),
        ({"x": PIXELS, "y": LABELS * 10**9}, {}, "from 0 to 2000000000, expected 0 to 2"),
        (
            {"x": PIXELS, "y": LABELS},
            {"class_names": ("a", "b")},
            "y has labels from 0 to 2, expected 0 to 1, for class_names has 2 classes",
        ),
        (
            {"x": PIXELS, "y": np.array(["a", "b", "c"])[LABELS]},
            {"class_names": ("a", "b")},
            "study.npz: y: has labels that are no classes: 'c'",
        ),
        ({"x": PIXELS[:0], "y": LABELS[:0]}, {}, "y is empty"),
        ({"x": PIXELS, "y": np.array([b"\xff"] * 12)}, {}, "y cannot be read: 'utf-8' codec"),
        (
            {"x": PIXELS, "y": LABELS, "z": np.array(["a"] * 12)},
            {"images": {"train": "x", "test": "x"}, "labels": {"train": "y", "test": "z"}},
            "y and z are texts for some splits and numbers for others",
        ),
        (
            {"x": PIXELS, "y": LABELS, "xs": PIXELS[:, 0]},
            {"images": {"train": "x", "test": "xs"}, "labels": {"train": "y", "test": "y"}},
            "the images of the splits differ",
        ),
        (
            {"x": PIXELS, "y": LABELS, "f": np.array(["test"] * 12)},
            {"splits": "f"},
            "f has no example for training",
        ),
        (
            {"x": PIXELS, "y": LABELS, "s": LABELS / 2},
            {"columns": {"site": "s"}},
            "s is float64 .* expected whole numbers or texts",
        ),
        (
            {"x": PIXELS, "y": LABELS, "s": as_objects(["A"] * 12)},
            {"columns": {"site": "s"}},
            "s holds Python objects, .* save it as numbers or text",
        ),
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


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"study\.npz: there is no such file"):
        Npz(path=tmp_path / "study.npz", images="x", labels="y").facts()


class Tripwire:
    """What would run code if it were unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("key", ["x", "y"])
def test_a_pickle_is_never_loaded(tmp_path: Path, key: str) -> None:
    arrays = {"x": PIXELS, "y": LABELS, key: as_objects([Tripwire() for _ in range(12)])}
    with pytest.raises(DataError, match=f"{key} holds Python objects"):
        opened(tmp_path, arrays)


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def rezipped(path: Path, **members: bytes) -> Npz:
    """Write arrays as they are given, damage included, with checksums that fit."""
    with zipfile.ZipFile(path / "study.npz", "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    os.utime(path / "study.npz", ns=(0, next(CLOCK)))
    return Npz(path=path / "study.npz", images="x", labels="y")


def test_an_array_shorter_than_it_says_is_told_before_it_is_read(tmp_path: Path) -> None:
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (12, 2**20, 2**20)}
    np.lib.format.write_array_header_1_0(header, shape)
    source = rezipped(tmp_path, x=header.getvalue() + b"few", y=npy(LABELS))
    with pytest.raises(DataError, match=r"x is damaged: 3 bytes are there for uint8 \(12, 1048576"):
        source.facts()


@pytest.mark.parametrize("content", [b"", b"no zip", npy(PIXELS)])
def test_what_is_no_npz_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"study\.npz: y cannot be read, .* or no npz file"):
        Npz(path=tmp_path / "study.npz", images="x", labels="y").facts()


@given(place=st.floats(0, 1, exclude_max=True), value=st.binary(max_size=3), cut=st.booleans())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damage_to_the_file_is_a_data_error_or_none(
    tmp_path: Path, place: float, value: bytes, cut: bool
) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, x=PIXELS[:, 0], y=LABELS)
    whole = file.getvalue()
    at = int(place * len(whole))
    (tmp_path / "study.npz").write_bytes(
        whole[:at] if cut else whole[:at] + value + whole[at + len(value) :]
    )
    os.utime(tmp_path / "study.npz", ns=(0, next(CLOCK)))
    source = Npz(path=tmp_path / "study.npz", images="x", labels="y")
    with suppress(DataError):
        source.facts()
        data = source.open(Streams(0))
        np.testing.assert_array_equal(everything(data)[:, 0], PIXELS[:, 0])


@given(st.integers(0, 127), st.binary(min_size=1, max_size=3))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damage_to_a_header_is_a_data_error_or_none(tmp_path: Path, at: int, value: bytes) -> None:
    whole = npy(PIXELS)
    damaged = whole[:at] + value + whole[at + len(value) :]
    source = rezipped(tmp_path, x=damaged, y=npy(LABELS))
    with suppress(DataError):
        source.facts()
        source.open(Streams(0))


@pytest.mark.parametrize(
    "keys",
    [
        {"images": {"train": "x"}, "labels": "y"},
        {"images": {"test": "x"}, "labels": {"test": "y"}},
        {"images": {"train": "x"}, "labels": {"train": "y"}, "splits": "z"},
        {"images": "x", "labels": "y", "columns": {"site": {"train": "s"}}},
        {"images": "x", "labels": "y", "class_names": ()},
        {"images": "x", "labels": "y", "class_names": ("a", "b", "a")},
        {"images": {"dev": "x"}, "labels": {"dev": "y"}},
    ],
)
def test_keys_that_do_not_fit_together_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Npz(path="study.npz", **keys)
