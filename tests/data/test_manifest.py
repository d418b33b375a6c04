"""A manifest or a tree of folders says what there is; what is amiss is told by line."""

from __future__ import annotations

import csv
import io
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fedsim.data.manifest import PATH, Manifest, read
from fedsim.errors import DataError

CLOCK = itertools.count(1)
"""Times of change: a file system's own clock is too coarse for files written one upon another."""


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "deep/c.png"):
        picture(tmp_path / "study" / name)
    return tmp_path / "study"


def manifest(folder: Path, text: str | bytes, root: Path | None = None) -> Manifest:
    content = text if isinstance(text, bytes) else text.encode()
    (folder / "m.csv").write_bytes(content)
    os.utime(folder / "m.csv", ns=(0, next(CLOCK)))
    return read(folder / "m.csv", root)


def complaint(folder: Path, text: str | bytes, root: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        manifest(folder, text, root)
    return str(caught.value).replace(str(folder / "m.csv"), "FILE").replace(str(folder), "ROOT")


def test_columns_may_come_in_any_order_with_more_of_them(folder: Path) -> None:
    found = manifest(
        folder,
        "\ufeffSite,label, path ,sex,split\n"
        "Basel,ill,a.png,f,train\n\n"
        '"Bern, West",well,deep/c.png,m,VAL\n'
        "Basel,ill,b.png,,test\n",
    )
    assert [(r.path, r.label, r.split) for r in found.rows] == [
        ("a.png", "ill", "train"),
        ("deep/c.png", "well", "validation"),
        ("b.png", "ill", "test"),
    ]
    assert found.column_names == ("site", "sex")
    assert dict(found.rows[1].columns) == {"site": "Bern, West", "sex": "m"}
    assert found.root == folder


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=8)


@given(
    cells=st.lists(st.tuples(CELLS.filter(str.strip), CELLS), min_size=3, max_size=3),
    order=st.permutations([0, 1, 2]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_a_spreadsheet_writes_is_what_is_read(
    folder: Path, cells: list[tuple[str, str]], order: list[int]
) -> None:
    rows = [(PATH, "label", "Note")]
    rows += [
        (path, *row) for path, row in zip(["a.png", "b.png", "deep/c.png"], cells, strict=True)
    ]
    text = io.StringIO()
    csv.writer(text).writerows([row[n] for n in order] for row in rows)
    found = manifest(folder, text.getvalue().replace("\r\n", "\n")).rows
    assert [(r.label, r.columns["note"]) for r in found] == [
        (label.strip(), note.strip()) for label, note in cells
    ]


def test_another_root_can_be_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    found = manifest(tmp_path / "lists", "path,label\na.png,x\n", folder)
    assert found.root == folder


def test_a_root_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert len(manifest(tmp_path / "link", "path,label\na.png,x\n").rows) == 1


def test_a_root_that_is_no_folder_or_goes_with_none_is_told(folder: Path, tmp_path: Path) -> None:
    message = complaint(folder, "path,label\na.png,x\n", tmp_path / "nowhere")
    assert message == f"FILE: the folder of its pictures, {tmp_path / 'nowhere'}, does not exist"
    with pytest.raises(DataError, match="`root` goes with a CSV manifest alone"):
        read(folder, tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "deep/../../secret.png",
        "ABSOLUTE",
        "link.png",
        "gone/secret.png",
        "..link/secret.png",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(folder: Path, path: str) -> None:
    secret = picture(folder.parent / "secret.png")
    (folder / "link.png").symlink_to(secret)
    (folder / "gone").symlink_to(folder.parent)
    (folder / "..link").symlink_to("..")
    path = path.replace("ABSOLUTE", str(secret))
    message = complaint(folder, f"path,label\na.png,x\n{path},x\n")
    assert message.startswith("FILE:3: path: ")
    assert "leads out of ROOT; pictures must lie inside it" in message


SEGMENTS = st.sampled_from(["..", ".", "", "deep", "a.png", "gone", "in", "secret.png", "c.png"])


@given(st.lists(SEGMENTS, min_size=1, max_size=6), st.booleans())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_nothing_outside_the_folder_is_ever_listed(
    folder: Path, segments: list[str], absolute: bool
) -> None:
    picture(folder.parent / "secret.png")
    for name, target in (("gone", folder.parent), ("in", folder / "deep")):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(target)
    path = ("/" if absolute else "") + "/".join(segments)
    try:
        rows = manifest(folder, f'path,label\n"{path}",x\n').rows
    except DataError:
        return
    assert (folder / rows[0].path).resolve().is_relative_to(folder.resolve())
    assert (folder / rows[0].path).is_file()


def test_a_link_that_stays_inside_is_fine(folder: Path) -> None:
    (folder / "other").symlink_to("deep")
    (folder / "d.png").symlink_to("a.png")
    assert len(manifest(folder, "path,label\nother/c.png,x\nd.png,x\n").rows) == 2


def test_an_absolute_path_inside_is_fine(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    for root in (folder, folder.parent / "link"):
        found = manifest(folder, f"path,label\n{folder / 'deep/c.png'},x\n", root)
        assert found.rows[0].path == "deep/c.png"
        assert found.digest() == manifest(folder, "path,label\ndeep//c.png,x\n", root).digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE: is empty; expected a line of headings"),
        ("path,label\n", "FILE: is empty"),
        ("file,label\na.png,x\n", "FILE:1: lacks the columns path; it has file, label"),
        ("path,label,label\na.png,x,y\n", "FILE:1: every column needs a name of its own"),
        ("path,label,\na.png,x,y\n", "FILE:1: every column needs a name of its own"),
        ("path,label\na.png\n", "FILE:2: has 1 cells, the headings 2"),
        ("path,label\na.png,\n", "FILE:2: label: is empty"),
        ("path,label\n,x\n", "FILE:2: path: is empty"),
        ("path,label\nz.png,x\n", "FILE:2: path: z.png is no file in ROOT"),
        ("path,label\ndeep,x\n", "FILE:2: path: deep is no file in ROOT"),
        ("path,label\nloop.png,x\n", "FILE:2: path: loop.png is no file in ROOT"),
        (f"path,label\n{'a' * 300}.png,x\n", "FILE:2: path: aaaa"),
        ("Path,lable\na.png,x\n", "FILE:1: lacks the columns label; it has path, lable (is lable"),
        ("path;label\na.png;x\n", "FILE:1: lacks the columns path, label; it has path;label; exp"),
        (
            "path,label\na.png,x\n\na.png,y\n",
            "FILE:4: path: a.png is listed twice, first in line 2",
        ),
        ("path,label\na.png,x\n./deep/../a.png,y\n", "FILE:3: path: a.png is listed twice"),
        (
            "path,label,split\na.png,x,dev\n",
            "FILE:2: split: expected train, validation or test, got 'dev'",
        ),
        (
            "path,label,split\na.png,x,train\nb.png,x,\n",
            "FILE:3: split: 1 of 2 rows have none, this is the first; fill in all or none",
        ),
        ("path,label,split\na.png,x,test\n", "FILE: split: no row is for training, only test"),
        ('path,label\n"a.png,x\n', "FILE: is no CSV"),
        (b"path,label\n\xff\xfe,x\n", "FILE: cannot be read as text"),
        (b"path,label\n\x00,x\n", "FILE: is no text"),
    ],
)
def test_what_is_amiss_is_told_by_line(folder: Path, text: str | bytes, message: str) -> None:
    (folder / "loop.png").symlink_to("loop.png")
    assert complaint(folder, text).startswith(message)


def test_lines_are_counted_over_quoted_breaks(folder: Path) -> None:
    text = 'path,label,note\na.png,x,"two\nlines"\nb.png,,none\n'
    assert complaint(folder, text) == "FILE:4: label: is empty"


def test_ten_problems_are_told_at_once(folder: Path) -> None:
    listed = "".join(f"{n}.png,{'x' * (n > 0)}\n" for n in range(25))
    lines = complaint(folder, "path,label\n" + listed).splitlines()
    assert lines[0] == "FILE:2: label: is empty"
    assert lines[1:10] == [
        f"FILE:{n + 2}: path: {n}.png is no file in ROOT (nor are 24 others)" for n in range(9)
    ]
    assert lines[10:] == ["... and 16 more"]


def test_a_manifest_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a CSV manifest or a folder"):
        read(tmp_path / "nothing.csv", None)


def test_a_changed_manifest_is_read_again(folder: Path) -> None:
    first = manifest(folder, "path,label\na.png,x\n")
    second = manifest(folder, "path,label\na.png,other\n")
    assert (first.rows[0].label, second.rows[0].label) == ("x", "other")
    assert first.digest() != second.digest()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["Basel/train/ill/1.png", "Bern/Val/well/1.PNG"],
            [("ill", "train", {"site": "Basel"}), ("well", "validation", {"site": "Bern"})],
        ),
        (
            ["Basel/ill/1.png", "Bern/well/2.jpg"],
            [("ill", "", {"site": "Basel"}), ("well", "", {"site": "Bern"})],
        ),
        (
            ["train/ill/1.png", "valid/well/2.png"],
            [("ill", "train", {}), ("well", "validation", {})],
        ),
        (["train/ill/1.png", "test/well/2.png"], [("well", "test", {}), ("ill", "train", {})]),
        (["ill/1.png", "well/2.png"], [("ill", "", {}), ("well", "", {})]),
    ],
)
def test_folders_are_understood_by_their_depth(
    tmp_path: Path, files: list[str], expected: list[tuple[str, str, dict[str, str]]]
) -> None:
    for name in files:
        picture(tmp_path / name)
    picture(tmp_path / ".hidden" / "x" / "1.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    rows = read(tmp_path, None).rows
    assert [(r.label, r.split, dict(r.columns)) for r in rows] == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["ill/1.png", "Basel/ill/1.png"],
            r"lie 1 and 2 folders deep, such as Basel/ill/1\.png; expected site/split/class/\*",
        ),
        (["1.png"], r"lie 0 folders deep, such as 1\.png"),
        (["a/b/c/d/1.png"], "lie 4 folders deep"),
        (["Basel/train/ill/1.png", "Basel/extra/ill/2.png"], "extra/ill/2.png lies in no folder"),
        (["train/ill/1.png", "Basel/ill/2.png"], "Basel/ill/2.png lies in no folder for train"),
        (["test/ill/1.png", "val/ill/2.png"], "no row is for training"),
    ],
)
def test_folders_that_follow_no_layout_are_refused(
    tmp_path: Path, files: list[str], message: str
) -> None:
    for name in files:
        picture(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read(tmp_path, None)


def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    picture(tmp_path / "ill" / "1.png")
    assert len(read(tmp_path, None).rows) == 1
    picture(tmp_path / "well" / "2.png")
    assert len(read(tmp_path, None).rows) == 2


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        read(tmp_path, None)


@pytest.mark.parametrize("link", ["ill/1.png", "well"])
def test_links_that_leave_the_folder_are_refused(tmp_path: Path, link: str) -> None:
    secret = picture(tmp_path / "outside" / "secret.png")
    picture(tmp_path / "study" / "ill" / "0.png")
    target = secret if link.endswith(".png") else secret.parent
    (tmp_path / "study" / link).symlink_to(target)
    with pytest.raises(DataError, match=f"{link} leads out of"):
        read(tmp_path / "study", None)


def test_links_inside_the_folder_are_followed_or_told(tmp_path: Path) -> None:
    picture(tmp_path / "ill" / "0.png")
    (tmp_path / "well").symlink_to("ill")
    assert [row.path for row in read(tmp_path, None).rows] == ["ill/0.png", "well/0.png"]
    (tmp_path / "ill" / "1.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"ill/1\.png is no file"):
        read(tmp_path, None)
    (tmp_path / "ill" / "1.png").unlink()
    (tmp_path / "ill" / "circle").symlink_to("..")
    with pytest.raises(DataError, match="folders deep"):
        read(tmp_path, None)
