"""An npz file that lies, bursts or runs code costs no memory, runs nothing and is named."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedsim.data import npz_file
from fedsim.data.medmnist import MedMnist
from fedsim.data.npz import Npz
from fedsim.errors import DataError
from fedsim.report import tables
from fedsim.seeds import Streams
from fedsim.simulate import run

Refused = Callable[..., str]
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 16, 16), np.uint8)
LABELS = np.arange(40) % 2
NAMES = np.array(["ill", "well"])[LABELS]
LITTLE = 20_000_000
"""Bytes that reading a file of a few kilobytes may take."""


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def head(shape: Any, descr: Any = "|u1", version: int = 1) -> bytes:
    """Return the header of an array without the array."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}) + "\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode()


def zipped(path: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def lying(path: Path, num_bytes: int) -> None:
    """Say in the directory of a zip, and in front of the last member, that it is longer."""
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", num_bytes)
    path.write_bytes(content)


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


def source(path: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "npz", "path": str(path), "images": "x", "labels": "y", **options}


def refusal(path: Path) -> str:
    """Return why the arrays of a file are refused, which takes little memory."""
    found = Npz(path=path, images="x", labels="y")
    with little_memory(), pytest.raises(DataError) as caught:
        found.open(Streams(0))
    return str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_file, "_memory", lambda: 50_000_000)
    zeros = head((40, 1400, 1400)) + bytes(40 * 1400 * 1400)
    path = zipped(tmp_path / "s.npz", x=zeros, y=npy(LABELS))
    assert path.stat().st_size < 200_000
    del zeros
    assert "x takes 0 GB, and this computer has 0 GB of memory" in refusal(path)


@pytest.mark.parametrize("num_bytes", [10**9, 2**32 - 2])
def test_a_directory_that_promises_more_than_can_be_is_told(tmp_path: Path, num_bytes: int) -> None:
    start = head((num_bytes - len(head((num_bytes,))),))
    path = zipped(tmp_path / "s.npz", y=npy(LABELS), x=start)
    lying(path, num_bytes)
    assert f"packed bytes cannot become {num_bytes}" in refusal(path)


def test_a_header_that_bursts_is_not_read(tmp_path: Path) -> None:
    start = b"\x93NUMPY\x02\x00" + struct.pack("<I", 100_000_000)
    path = zipped(tmp_path / "s.npz", x=start + bytes(100_000_000), y=npy(LABELS))
    assert "x cannot be read: EOF: reading array header" in refusal(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (head((-40, -16)) + bytes(640), "x is damaged"),
        (head((40, -16, -16)) + bytes(40 * 256), "x is damaged"),
        (head((10**18,), "<U0"), "x is damaged"),
        (head((10**18, 0)), r"x has \(1000000000000000000,\) images"),
        (head((40, 16, 16), "|V0"), "x is damaged"),
        (head((2**62, 2**62)), "x is damaged"),
        (head((40,), [("a", "<f8", (16, 16))]) + bytes(40 * 2048), "x is .* expected uint8"),
        (head((40,), "|O") + pickle.dumps([1] * 40), "x holds Python objects"),
        (head("(40,)") + bytes(40), "shape is not valid"),
        (head((40,), "no type") + bytes(40), "x cannot be read"),
        (b"\x93NUMPY\x01\x00\x00\x27" + b"-" * 9_983 + b"1", "x cannot be read"),
        (b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000, "x cannot be read"),
        (b"\x93NUMPY\x07\x00" + bytes(200), "x cannot be read"),
        (b"\x80\x04.", "x cannot be read"),
        (b"", "x cannot be read"),
    ],
)
def test_a_header_that_lies_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = zipped(tmp_path / "s.npz", x=content, y=npy(LABELS))
    said = refusal(path)
    assert str(path) in said
    assert re.search(message, said), said


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packing_than_numpys_is_refused(tmp_path: Path, method: int) -> None:
    path = zipped(tmp_path / "s.npz", method, x=npy(PIXELS), y=npy(LABELS))
    assert "packed as numpy never does" in refusal(path)


def test_the_names_of_many_arrays_are_not_all_told(tmp_path: Path) -> None:
    path = zipped(tmp_path / "s.npz", **{f"array{n}": b"" for n in range(3000)})
    said = refusal(path)
    assert said.endswith("array9 and 2990 more)")
    assert len(said) < 400


class Tripwire:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("key", ["x", "y", "site"])
def test_no_pickle_is_loaded(refused: Refused, tmp_path: Path, key: str) -> None:
    trap = np.array([Tripwire(tmp_path / "sprung")] * 40, dtype=object)
    np.savez(tmp_path / "s.npz", **{"x": PIXELS, "y": LABELS, "site": NAMES, key: trap})
    said = refused(source(tmp_path / "s.npz", columns={"site": "site"}))
    assert f"{key} holds Python objects, and reading those could run code" in said
    assert not (tmp_path / "sprung").exists()


def test_a_medmnist_file_that_lies_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSIM_DATA_DIR", str(tmp_path))
    names = [f"{p}_{w}" for p in ("train", "val", "test") for w in ("images", "labels")]
    bomb = head((50, 1000, 1000)) + bytes(50 * 1000 * 1000)
    members = {**dict.fromkeys(names, b""), "train_images": bomb}
    path = zipped(tmp_path / "breastmnist.npz", **members)
    del bomb, members
    with little_memory(), pytest.raises(DataError, match=r"train_images is uint8 \(50, 1000"):
        MedMnist(name="breastmnist").open(Streams(0))
    assert path.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": PIXELS, "y": LABELS.astype(float)}, "y is float64"),
        ({"x": PIXELS, "y": np.where(LABELS, np.nan, 0)}, "y is float64"),
        ({"x": PIXELS, "y": LABELS - 1}, "labels from -1 to 0"),
        ({"x": PIXELS, "y": LABELS * 2}, "labels from 0 to 2, expected 0 to 1"),
        ({"x": PIXELS, "y": LABELS.astype(np.uint64) + 2**63}, "labels from 92233720368547758"),
        ({"x": PIXELS, "y": LABELS * 0}, "two classes, this one has 1"),
        ({"x": PIXELS, "y": np.arange(40)}, "two classes, this one has 40"),
        ({"x": PIXELS, "y": LABELS[:39]}, "x has .* images, but y 39 labels"),
        ({"x": PIXELS}, "has no array 'y'"),
        ({"y": LABELS}, "has no array 'x'"),
        ({"x": PIXELS[:0], "y": LABELS[:0]}, "y is empty"),
        ({"x": PIXELS[:1], "y": LABELS[:1]}, "two classes"),
        ({"x": PIXELS[:2], "y": LABELS[:2]}, "2 sites of at least"),
        ({"x": PIXELS[:, :0, :0], "y": LABELS}, "at least 2 pixels, these have 0"),
        ({"x": PIXELS[:, :1, :1], "y": LABELS}, "takes images of at least|pixels"),
        ({"x": np.where(PIXELS > 9, np.inf, 0.5), "y": LABELS}, "infinite or not a number"),
        ({"x": np.where(PIXELS > 9, np.nan, 0.5), "y": LABELS}, "infinite or not a number"),
        ({"x": PIXELS.astype(np.complex64), "y": LABELS}, "x is complex64"),
        ({"x": PIXELS.astype("M8[s]"), "y": LABELS}, "x is datetime64"),
        ({"x": PIXELS, "y": LABELS.astype("m8[s]")}, "y is timedelta64"),
        ({"x": PIXELS, "y": np.array(["Ill", "ill"])[LABELS]}, "differ only in letter case"),
        ({"x": PIXELS, "y": np.array(["a b", "a  b"])[LABELS]}, "differ only in letter case"),
        ({"x": PIXELS, "y": np.array(["œdème", "œde\u0300me"])[LABELS]}, "form of Unicode"),
        ({"x": PIXELS, "y": np.array(["a\x1b[2J", "b"])[LABELS]}, r"holds the character '\\x1b'"),
        ({"x": PIXELS, "y": np.array(["a\nb", "b"])[LABELS]}, r"holds the character '\\n'"),
        ({"x": PIXELS, "y": np.array(["a" * 101, "b"])[LABELS]}, "has 101 characters"),
        ({"x": PIXELS, "y": np.array(["a\u202eb", "b"])[LABELS]}, r"the character '\\u202e'"),
        ({"x": PIXELS, "y": np.array(["9" * 5000, "b"])[LABELS]}, "has 5000 characters"),
    ],
)
def test_what_is_amiss_is_told_before_anything_is_written(
    refused: Refused, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    said = refused(source(tmp_path / "s.npz"), model={"kind": "small_cnn", "widths": [8]})
    assert re.search(message, said), said


@pytest.mark.parametrize("number", [0x110000, 0xFFFFFFFF, 0xD800])
def test_numbers_that_are_no_characters_are_told(
    refused: Refused, tmp_path: Path, number: int
) -> None:
    names = np.full(40, "ab", "<U2")
    names.view(np.uint32)[::4] = number
    np.savez(tmp_path / "s.npz", x=PIXELS, y=names)
    said = refused(source(tmp_path / "s.npz"))
    assert f"{tmp_path / 's.npz'}: y has numbers that stand for no character" in said


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_told(refused: Refused, tmp_path: Path, share: float) -> None:
    path = tmp_path / "s.npz"
    np.savez(path, x=PIXELS, y=LABELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged or no npz file" in refused(source(path))


def test_what_is_no_file_is_not_waited_for(refused: Refused, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    for path in (tmp_path / "pipe.npz", tmp_path / "folder.npz", Path("/dev/zero")):
        assert f"{path}: is no file" in refused(source(path))


def test_sites_that_look_alike_are_told(refused: Refused, tmp_path: Path) -> None:
    where = np.array(["Basel", "Bern", "basel"])[np.arange(40) % 3]
    np.savez(tmp_path / "s.npz", x=PIXELS, y=LABELS, s=where)
    said = refused(
        source(tmp_path / "s.npz", columns={"site": "s"}),
        population={"partition": {"kind": "by_column", "min_examples": 1}},
    )
    assert "partition.column: site: 'Basel' and 'basel' differ only in letter case" in said


def test_a_site_of_one_example_is_told_or_trains(
    refused: Refused, tiny: Any, tmp_path: Path
) -> None:
    where = np.array(["Basel"] * 39 + ["Bern"])
    np.savez(tmp_path / "s.npz", x=PIXELS, y=LABELS, s=where)
    given = source(tmp_path / "s.npz", columns={"site": "s"})
    partition = {"kind": "by_column", "min_examples": 2}
    said = refused(given, population={"partition": partition})
    assert "fewer than 2 examples of train at Bern" in said
    scenario = tiny(
        data={"source": given, "task": "binary"},
        population={"partition": {"kind": "by_column"}},
        rounds=1,
    )
    record = run(scenario, out=tmp_path / "runs", device="cpu")
    assert record.rounds[0]["num_examples"]["Bern"] == 1
    assert record.finished


def test_a_site_without_a_class_trains_and_says_what_is_undefined(
    tiny: Any, tmp_path: Path
) -> None:
    where = np.where(LABELS, "Basel", np.where(np.arange(40) < 20, "Bern", "Basel"))
    np.savez(tmp_path / "s.npz", x=PIXELS, y=LABELS, s=where)
    scenario = tiny(
        data={
            "source": source(tmp_path / "s.npz", columns={"site": "s"}),
            "task": "binary",
        },
        population={
            "partition": {"kind": "by_column", "min_examples": 1},
            "held_out": {"validation": 0.2, "test": 0.3},
        },
        rounds=1,
    )
    record = run(scenario, out=tmp_path / "runs", device="cpu")
    of_bern = {
        row["metric"]: row["value"]
        for row in record.metrics
        if (row["site"], row["split"], row["round"]) == ("Bern", "test", 1)
    }
    assert of_bern["auroc"] is None
    assert of_bern["loss"] is not None
    assert "undefined" in tables.to_markdown(record)
