"""What appears whole leaves nothing behind, whoever is killed over it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedsim.drafts import new_folder, whole_file, whole_folder
from fedsim.errors import ExistsError

FILL = (
    "import pathlib, sys\nfrom fedsim.drafts import whole_folder\n"
    "with whole_folder(pathlib.Path(sys.argv[1])) as draft:\n"
    "    (draft / 'half').write_text('a')\n    print('filling', flush=True)\n"
    "    sys.stdin.read()"
)


def fill(path: Path) -> subprocess.Popen[bytes]:
    """Start a process that fills a folder until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", FILL, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"filling\n"
    return process


def test_the_draft_of_a_killed_process_is_removed_and_that_of_a_living_one_left(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run[1]"
    (tmp_path / ".run[1].notes").write_text("mine")
    with fill(path) as living, fill(path) as killed:
        assert len(list(tmp_path.glob(".run*.draft"))) == 2
        killed.kill()
        killed.wait()
        with whole_folder(path) as draft:
            (draft / "whole").write_text("b")
        assert len(list(tmp_path.glob(".run*.draft"))) == 1
        living.kill()
    with whole_folder(path):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [".run[1].notes", "run[1]"]


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "array.npy"
    with whole_file(path) as file:
        file.write(b"first")

    class Died(Exception):
        pass

    def die() -> None:
        with whole_file(path) as file:
            file.write(b"sec")
            raise Died

    with pytest.raises(Died):
        die()
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_a_new_folder_replaces_none_that_came_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def make() -> None:
        with new_folder(path) as draft:
            (draft / "ours").touch()
            path.mkdir()
            (path / "theirs").touch()

    with pytest.raises(ExistsError, match="exists already; nothing was changed"):
        make()
    assert [file.name for file in tmp_path.rglob("*")] == ["run", "theirs"]
