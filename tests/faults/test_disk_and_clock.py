"""A full disk, folders that nobody may write to, a clock that jumps: nothing recorded is lost."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedsim import report
from fedsim.errors import FedsimError, InputError, RunError
from fedsim.records import RunFolder, RunRecord, read
from fedsim.scenario import Scenario
from fedsim.simulate import resume, run
from tests.faults.trees import tree

Make = Callable[..., Scenario]
NOBODY = 65534


@pytest.fixture(scope="module")
def whole(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """Return a run that nothing disturbs."""
    return run(tiny(), out=tmp_path_factory.mktemp("whole"), name="run", device="cpu")


@contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """Let the system cut every file off at a size, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Let permissions count, for root too."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a temporary folder that every user may look into."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def finish(tiny: Make, out: Path) -> RunRecord:
    """Do what a user does: resume what has a folder, run what has none."""
    if (out / "run").exists():
        return resume(out / "run")
    return run(tiny(), out=out, name="run", device="cpu")


def complaint(do: Callable[[], Any]) -> str | None:
    """Return what is said of a failure, None if there is none."""
    try:
        do()
    except FedsimError as error:
        return str(error)
    return None


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


@pytest.mark.parametrize("num_bytes", [10, 500, 1500, 3000, 8500])
def test_a_disk_that_is_full_in_the_middle_of_a_write(
    tiny: Make, tmp_path: Path, whole: RunRecord, num_bytes: int
) -> None:
    with files_up_to(num_bytes), pytest.raises(FedsimError, match="File too large") as found:
        run(tiny(), out=tmp_path, name="run", device="cpu")
    assert str(tmp_path / "run") in str(found.value)
    assert not leftovers(tmp_path)
    assert tree(finish(tiny, tmp_path).folder) == tree(whole.folder)


def test_a_disk_that_is_full_at_any_file(
    tiny: Make, tmp_path: Path, whole: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync
    for last in itertools.count(1, 5):
        out, calls = tmp_path / str(last), itertools.count(1)

        def full(descriptor: int, last: int = last, calls: Any = calls) -> None:
            if next(calls) >= last:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(descriptor)

        with monkeypatch.context() as during:
            during.setattr(os, "fsync", full)
            said = complaint(lambda out=out: run(tiny(), out=out, name="run", device="cpu"))
        if said is None:
            break
        assert "No space left on device" in said
        assert not leftovers(out)
        assert tree(finish(tiny, out).folder) == tree(whole.folder)
    assert last > 20


def test_a_folder_that_nobody_may_write_to_is_told_before_training(
    tiny: Make, open_folder: Path
) -> None:
    said = f"{open_folder}/runs.*(cannot be made|cannot be written): Permission denied"
    with unprivileged(), pytest.raises(InputError, match=said):
        run(tiny(), out=open_folder / "runs", name="run", device="cpu")
    assert not list(open_folder.iterdir())


def test_a_run_folder_that_became_read_only_is_told_and_left_as_it_is(
    tiny: Make, open_folder: Path, broken: Callable[[Scenario, int], Path], whole: RunRecord
) -> None:
    shutil.copytree(broken(tiny(), 1), open_folder / "run")
    before = tree(open_folder)
    with unprivileged(), pytest.raises(RunError, match="cannot be written: Permission denied"):
        resume(open_folder / "run")
    assert tree(open_folder) == before
    assert tree(resume(open_folder / "run").folder) == tree(whole.folder)


def test_a_second_process_is_told_who_is_at_it(
    tiny: Make, broken: Callable[[Scenario, int], Path], whole: RunRecord
) -> None:
    path = broken(tiny(), 1)
    before = tree(path)
    folder = RunFolder(path)
    said = rf"another process is running this \(process {os.getpid()} on \S+\); wait for it"
    with pytest.raises(InputError, match=said):
        resume(path)
    folder.close()
    assert tree(path) == before
    assert tree(resume(path).folder) == tree(whole.folder)


def test_what_a_killed_report_left_goes_with_the_next_one(whole: RunRecord, tmp_path: Path) -> None:
    record = read(shutil.copytree(whole.folder, tmp_path / "run"))
    folder = report.write(record)[-1].parent
    before = tree(folder)
    (folder / ".index.html.1.tmp").write_text("<html>")
    report.write(record)
    assert tree(folder) == before


def test_a_clock_that_jumps_changes_no_bit_and_no_duration(
    tiny: Make, tmp_path: Path, whole: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, now = random.Random(0), time.time
    monkeypatch.setattr(time, "time", lambda: now() + rng.uniform(-1e8, 1e8))
    record = run(tiny(), out=tmp_path, name="run", device="cpu")
    assert tree(record.folder) == tree(whole.folder)
    assert all(0 <= row["seconds"] < 600 for row in read(record.folder).timing)
