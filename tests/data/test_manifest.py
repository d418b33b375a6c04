"""A manifest or a tree of folders says what there is; what is amiss is told by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedsim.data.manifest import Manifest, read
from fedsim.errors import DataError


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


def test_another_root_can_be_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    found = manifest(tmp_path / "lists", "path,label\na.png,x\n", folder)
    assert found.root == folder


def test_a_root_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert len(manifest(tmp_path / "link", "path,label\na.png,x\n").rows) == 1


@pytest.mark.parametrize("path", ["../secret.png", "deep/../../secret.png", "ABSOLUTE", "link.png"])
def test_a_path_that_leaves_the_folder_is_refused(folder: Path, path: str) -> None:
    secret = picture(folder.parent / "secret.png")
    (folder / "link.png").symlink_to(secret)
    path = path.replace("ABSOLUTE", str(secret))
    message = complaint(folder, f"path,label\na.png,x\n{path},x\n")
    assert message.startswith("FILE:3: path: ")
    assert "leads out of ROOT; pictures must lie inside it" in message


def test_an_absolute_path_inside_is_fine(folder: Path) -> None:
    assert len(manifest(folder, f"path,label\n{folder / 'a.png'},x\n").rows) == 1


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
        ("path,label\na.png,x\n\na.png,y\n", "FILE: path: a.png is listed twice"),
        (
            "path,label,split\na.png,x,dev\n",
            "FILE:2: split: expected train, validation or test, got 'dev'",
        ),
        (
            "path,label,split\na.png,x,train\nb.png,x,\n",
            "FILE: split: 1 of 2 rows have none; fill in all or none",
        ),
        ("path,label,split\na.png,x,test\n", "FILE: split: no row is for training"),
        ('path,label\n"a.png,x\n', "FILE: is no CSV"),
        (b"path,label\n\xff\xfe,x\n", "FILE: cannot be read as text"),
        (b"path,label\n\x00,x\n", "FILE: is no text"),
    ],
)
def test_what_is_amiss_is_told_by_line(folder: Path, text: str | bytes, message: str) -> None:
    assert complaint(folder, text).startswith(message)


def test_lines_are_counted_over_quoted_breaks(folder: Path) -> None:
    text = 'path,label,note\na.png,x,"two\nlines"\nb.png,,none\n'
    assert complaint(folder, text) == "FILE:4: label: is empty"


def test_ten_problems_are_told_at_once(folder: Path) -> None:
    message = complaint(folder, "path,label\n" + "".join(f"{n}.png,x\n" for n in range(25)))
    assert message.count("is no file") == 10
    assert message.endswith("... and 15 more")


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


def test_folders_of_different_depths_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "ill" / "1.png")
    picture(tmp_path / "Basel" / "ill" / "1.png")
    with pytest.raises(DataError, match=r"lie 1 and 2 folders deep, such as Basel/ill/1\.png"):
        read(tmp_path, None)


def test_a_folder_without_pictures_or_with_a_link_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        read(tmp_path / "empty", None)
    secret = picture(tmp_path / "secret.png")
    (tmp_path / "study" / "ill").mkdir(parents=True)
    (tmp_path / "study" / "ill" / "1.png").symlink_to(secret)
    with pytest.raises(DataError, match="leads out of"):
        read(tmp_path / "study", None)
