"""Pictures and manifests that are damaged, misnamed or hostile are told by file and line."""

from __future__ import annotations

import csv
import io
import os
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fedsim.data import manifest, pictures
from fedsim.errors import DataError

Refused = Callable[..., str]
RNG = np.random.default_rng(0)
NUM = 24


def grey(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A manifest of pictures of two classes, the odd ones ill."""
    folder = tmp_path / "study"
    folder.mkdir()
    lines = ["path,label,site,patient"]
    for number in range(NUM):
        Image.fromarray(grey(number)).save(folder / f"{number}.png")
        label, site = ("well", "ill")[number % 2], ("Basel", "Bern")[number % 4 // 2]
        lines.append(f"{number}.png,{label},{site},p{number}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder


def source(path: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "images", "path": str(path), "image_size": 16, **options}


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of this size, as it says, with these chunks and one black line."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(bytes(width + 1))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def encoded(format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey()).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no picture that can be read"),
        (b"only text", "is no picture that can be read"),
        (encoded("PNG")[:-60], "cannot be read as a picture"),
        (encoded("PNG")[:30], "3.png"),
        (encoded("JPEG")[:-100], "cannot be read as a picture"),
        (encoded("TIFF")[:100], "3.png"),
        (encoded("GIF")[:40], "3.png"),
        (encoded("PPM"), "is no picture that can be read; expected PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture that can be read"),
        (png(2**31 - 1, 2**31 - 1), "is too large a picture: more than 89,478,485 pixels"),
        (png(20_000, 20_000), "is too large a picture: .* make it smaller"),
        (png(10_000, 10_000), "is too large a picture"),
        (png(0, 16), "3.png"),
        (
            png(16, 16, (b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000_000)))),
            "cannot be read as a picture",
        ),
        (bytes(128) + b"DICM" + bytes(400), "reads no DICOM, NIfTI .* save .* as PNG"),
        (bytes(344) + b"n+1\0" + bytes(400), "reads no DICOM, NIfTI"),
    ],
)
def test_a_picture_that_is_none_is_named_before_training(
    refused: Refused, study: Path, content: bytes, message: str
) -> None:
    (study / "3.png").write_bytes(content)
    tracemalloc.start()
    said = refused(source(study / "m.csv"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000
    assert str(study / "3.png") in said
    assert re.search(message, said), said


def test_a_picture_that_goes_away_or_becomes_a_pipe_is_named(
    refused: Refused, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = manifest.read

    def listed(*given: Any) -> Any:
        found = read(*given)
        (study / "3.png").unlink(missing_ok=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "read", listed)
        assert f"{study / '3.png'}: cannot be read: No such file" in refused(
            source(study / "m.csv")
        )
    os.mkfifo(study / "3.png")
    with pytest.raises(DataError, match=r"3\.png: cannot be read as a picture: it is no file"):
        pictures.read([study / "3.png"], image_size=16, num_channels=1, fit="pad")


AS_NOBODY = """
import encodings.utf_8_sig, os, sys, numpy, PIL.ImageOps, PIL.Image
from fedsim.data.images import Images
from fedsim.errors import DataError
from fedsim.seeds import Streams
PIL.Image.init()
os.setgid(65534)
os.setuid(65534)
try:
    source = Images(path=sys.argv[1], image_size=16)
    source.open(Streams(0)).images("all", numpy.arange(4))
except DataError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user to be")
@pytest.mark.parametrize(
    ("closed", "message"),
    [
        ("m.csv", "m.csv: cannot be read as text (UTF-8): "),
        ("3.png", "3.png: cannot be read as a picture: Permission denied"),
        ("inner", "path: inner/x.png may not be read in"),
    ],
)
def test_what_may_not_be_read_is_said_to_be(study: Path, closed: str, message: str) -> None:
    (study / "inner").mkdir()
    Image.fromarray(grey()).save(study / "inner" / "x.png")
    with (study / "m.csv").open("a") as file:
        file.write("inner/x.png,ill,Basel,\n")
    for folder in (study, *study.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    (study / closed).chmod(0)
    command = [sys.executable, "-c", AS_NOBODY, str(study / "m.csv")]
    environment = {**os.environ, "FEDSIM_CACHE_DIR": str(study / "no cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert message in done.stdout, done.stderr


def listed(study: Path, text: str | bytes, **options: Any) -> dict[str, Any]:
    content = text if isinstance(text, bytes) else text.encode()
    (study / "m.csv").write_bytes(content)
    return source(study / "m.csv", **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n../outside.png,ill\n0.png,well\n", ":2: path: ../outside.png leads out of"),
        ("path,label\n/etc/passwd,ill\n0.png,well\n", ":2: path: /etc/passwd leads out of"),
        ("path,label\nlink.png,ill\n0.png,well\n", ":2: path: link.png leads out of"),
        ("path,label\n0.png,ill\n0.png,well\n", ":3: path: 0.png is listed twice"),
        ("path,label\n0.png,ill\n./0.png,well\n", ":3: path: 0.png is listed twice"),
        ("path,lable\n0.png,ill\n", ":1: lacks the columns label"),
        ("0.png,ill\n1.png,well\n", ":1: lacks the columns path, label"),
        ("path\tlabel\n0.png\till\n", ":1: lacks the columns path, label"),
        ("path,label\n0.png,ill,more\n", ":2: has 3 cells, the headings 2"),
        (b"path,label\n0.png,\xe9\n", "cannot be read as text (UTF-8)"),
        ("path,label\n0.png,ill\n".encode("utf-16"), "cannot be read as text (UTF-8)"),
        (b"path,label\n0.png,i\0l\n", "is no text"),
        ('path,label\n0.png,"ill\n1.png,well\n', "is no CSV"),
        ("path,label\n" + "x" * 200_000 + ",ill\n", "is no CSV: field larger than field limit"),
        ("path,label\n3.PNG,ill\n0.png,well\n", "3.PNG is no file in"),
        ("path,label\n3.PNG,ill\n0.png,well\n", "3.png is there, in other letters"),
        ("path,label\ninner,ill\n0.png,well\n", ":2: path: inner is no file in"),
        ("path,label\nscan.dcm,ill\n0.png,well\n", ":2: path: scan.dcm: fedsim reads no DICOM"),
        ("path,label\na.nii.gz,ill\nb.nii.gz,well\n", ":2: path: a.nii.gz (and 1 others): fed"),
        ('path,label\n0.png,"i\x1bl"\n1.png,well\n', r"holds the character '\x1b'"),
        ('path,label\n0.png,"i\nl"\n1.png,well\n', r"holds the character '\n'"),
        ("path,label\n0.png,ill\n1.png,Ill\n", "'Ill' and 'ill' differ only in letter case"),
        (f"path,label\n0.png,ill\n1.png,{'w' * 5000}\n", "has 5000 characters; use at most 100"),
        ("path,label\n0.png,ill\n1.png," + "9" * 5000 + "\n", "has 5000 characters"),
    ],
)
def test_a_manifest_is_told_what_is_amiss(
    refused: Refused, study: Path, text: str | bytes, message: str
) -> None:
    (study / "link.png").symlink_to("/etc/hostname")
    (study / "inner").mkdir()
    for name in ("scan.dcm", "a.nii.gz", "b.nii.gz"):
        (study / name).write_bytes(b"")
    said = refused(listed(study, text))
    assert message in said
    assert str(study / "m.csv") in said or "label" in message


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_another_form_of_unicode_is_pointed_at(refused: Refused, study: Path, form: Any) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    (study / "0.png").rename(study / f"{unicodedata.normalize(form, 'Zürich')}.png")
    name = unicodedata.normalize(other, "Zürich")
    said = refused(listed(study, f"path,label\n{name}.png,ill\n1.png,well\n"))
    assert "is there, in other letters or another form of Unicode" in said


def test_a_patient_in_two_splits_is_told(refused: Refused, study: Path) -> None:
    rows = [
        f"{n}.png,{('well', 'ill')[n % 2]},p{n // 2},{('train', 'validation', 'test')[n % 3]}\n"
        for n in range(NUM)
    ]
    said = refused(
        listed(study, "path,label,patient,split\n" + "".join(rows)),
        population={
            "num_sites": 2,
            "held_out": "official",
            "partition": {"kind": "iid", "min_examples": 1},
        },
    )
    assert "12 patients have images in more than one split, such as p0" in said


def test_names_of_folders_that_are_no_text_are_told(refused: Refused, tmp_path: Path) -> None:
    for name in (b"ill\xff", b"well"):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/tree/" + name))
        folder.mkdir(parents=True)
        for number in range(6):
            Image.fromarray(grey(number)).save(folder / f"{number}.png")
    assert r"'ill\udcff' holds the character '\udcff'" in refused(source(tmp_path / "tree"))


def test_a_tree_of_dicom_says_how_to_convert_it(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "tree" / "ill").mkdir(parents=True)
    (tmp_path / "tree" / "ill" / "a.dcm").write_bytes(bytes(200))
    said = refused(source(tmp_path / "tree"))
    assert "holds no pictures" in said
    assert "fedsim reads no DICOM" in said


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "pipe"])
def test_what_is_no_manifest_is_not_waited_for(refused: Refused, tmp_path: Path, path: str) -> None:
    if path == "pipe":
        os.mkfifo(tmp_path / "pipe")
    assert "is no file; expected a CSV" in refused(source(tmp_path / path))


@pytest.mark.slow
def test_many_rows_are_judged_in_bounded_time(tmp_path: Path) -> None:
    num = 200_000
    Image.fromarray(grey()).save(tmp_path / "0.png")
    lines = "".join(f"{n}.png,{n % 2},site {n % 50},p{n // 3}\n" for n in range(num))
    (tmp_path / "m.csv").write_text("path,label,site,patient\n" + lines)
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        manifest.read(tmp_path / "m.csv", None)
    assert time.process_time() - start < 60
    said = str(caught.value)
    assert "1.png is no file" in said
    assert "nor are 199998 others" in said
    assert len(said.splitlines()) == manifest.MOST_PROBLEMS + 1


FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "'=1", "\uff1d1+1")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cmyk_and_animated_pictures_become_grey_or_colour(tmp_path: Path, suffix: str) -> None:
    flat = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    if suffix == ".jpg":
        Image.fromarray(flat).convert("CMYK").save(tmp_path / "p.jpg", quality=95)
    else:
        frames = [Image.fromarray(np.full_like(flat, n)) for n in (60, 250)]
        frames[0].save(tmp_path / "p.png", save_all=True, append_images=frames[1:])
    expected = (200, 40, 90) if suffix == ".jpg" else (60, 60, 60)
    found = pictures.read([tmp_path / f"p{suffix}"], image_size=16, num_channels=3, fit="pad")
    np.testing.assert_allclose(found[0, :, 8, 8], expected, atol=4)


def test_formulas_come_back_from_a_manifest_as_they_were(tmp_path: Path) -> None:
    from fedsim.spreadsheet import guarded

    Image.fromarray(grey()).save(tmp_path / "0.png")
    for formula in FORMULAS:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([["path", "label", "note"], ["0.png", "x", guarded(formula)]])
        assert "'" in text.getvalue()
        (tmp_path / f"{FORMULAS.index(formula)}.csv").write_text(text.getvalue(), newline="")
        (row,) = manifest.read(tmp_path / f"{FORMULAS.index(formula)}.csv", None).rows
        assert row.columns["note"] == formula
