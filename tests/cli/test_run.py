"""A run on the command line: its results come first, and nothing around it takes them away."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedsim.errors import RunError

TINY = """\
version: 1
name: tiny
rounds: 2
data: {source: {kind: synthetic, image_size: 16, num_examples: 120}, task: binary,
       label_map: {0: 0, 1: 0, 2: 1, 3: 1, 4: 1}}
population: {num_sites: 2}
model: {kind: mlp}
client: {steps: 1, batch_size: 8}
evaluation: {metrics: [loss], select_by: loss, every: 2, loss_decomposition: false}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A scenario that runs in no time."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def finished(fedsim: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run without a report, in a folder whose name has a space."""
    with monkeypatch.context() as patch:
        patch.setattr("fedsim.report.write", lambda record: [])
        assert fedsim("run", tiny, "--out", tmp_path / "my runs", "--run-name", "one")[0] == 0
    return tmp_path / "my runs" / "one"


def test_results_are_printed_although_the_report_cannot_be_written(
    fedsim: Any, finished: Path
) -> None:
    (finished / "report").write_text("in the way")
    for command in ("report", "resume"):
        code, out, err = fedsim(command, finished)
        assert code == 1
        assert "final (2)" in out
        assert out.splitlines()[-1] == str(finished)
        assert f"Make them with: fedsim report '{finished}'" in err
        assert f"Error: {finished / 'report'}: cannot be written: File exists" in err
    code, out, _ = fedsim("resume", finished, "--json")
    assert code == 1
    assert json.loads(out)["event"] == "done"


def test_a_full_disk_leaves_no_part_of_a_report(
    fedsim: Any, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    code, out, err = fedsim("report", finished)
    assert code == 1
    assert "final (2)" in out
    assert "results.csv: cannot be written: No space left on device" in err
    assert not list((finished / "report").iterdir())


def test_ctrl_c_while_figures_are_drawn_says_how_to_get_them(
    fedsim: Any, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedsim.report.write", interrupt)
    code, out, err = fedsim("resume", finished)
    assert code == 130
    assert "final (2)" in out
    assert "The results are complete, figures and tables are not" in err
    assert f"Make them with: fedsim report {shlex.quote(str(finished))}" in err


def test_how_to_go_on_can_be_pasted_into_a_shell(
    fedsim: Any, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RunError("the disk is full")

    monkeypatch.setattr("fedsim.simulate.resume", fail)
    err = fedsim("resume", finished)[2]
    assert f"Stopped. Go on with: fedsim resume '{finished}'\n" in err


def test_a_narrow_terminal_cuts_no_number(
    fedsim: Any, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "…" not in fedsim("report", finished)[1]


def test_resume_takes_a_device(
    fedsim: Any, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedsim import simulate

    seen, resume = [], simulate.resume

    def watched(folder: Path, *, device: Any, workers: Any, engine: Any, watch: Any) -> Any:
        seen.append((device, workers, engine))
        return resume(folder, device=device, workers=workers, engine=engine, watch=watch)

    monkeypatch.setattr(simulate, "resume", watched)
    assert fedsim("resume", finished, "--device", "cpu", "-q")[0] == 0
    assert fedsim("resume", finished, "-q", "--workers", "3")[0] == 0
    assert fedsim("resume", finished, "-q", "--engine", "flower")[0] == 0
    assert seen == [("cpu", 1, "own"), (None, 3, "own"), (None, 1, "flower")]


def test_without_ray_nothing_is_started(
    fedsim: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.engines.ray.find_spec", lambda name: None)
    code, _, err = fedsim("run", tiny, "--out", tmp_path / "out", "--engine", "flower")
    assert code == 2
    assert "pip install 'fedsim-medical[ray]'" in err
    assert not (tmp_path / "out").exists()


def test_leaving_sites_out_runs_on_our_own_engine(fedsim: Any, tiny: Path, tmp_path: Path) -> None:
    arguments = ["run", tiny, "--out", tmp_path / "out", "--leave-one-site-out"]
    code, _, err = fedsim(*arguments, "--engine", "flower")
    assert code == 2
    assert "leave --engine out" in err


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5", ""])
def test_a_number_of_workers_is_one(fedsim: Any, finished: Path, number: str) -> None:
    code, _, err = fedsim("resume", finished, "--workers", number)
    assert code == 2
    assert "expected a number above 0, or auto" in err
    assert fedsim("resume", finished, "-q", "--workers", "auto")[0] == 0


def start(arguments: str, tmp_path: Path, **environment: str) -> subprocess.Popen[str]:
    """Start `fedsim` in a shell, which may redirect its streams."""
    command = f"exec {shlex.quote(sys.executable)} -m fedsim {arguments}"
    return subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"FEDSIM_CACHE_DIR": str(tmp_path / "cache")} | environment,
    )


@pytest.mark.slow
def test_a_run_needs_nobody_to_listen(tiny: Path, tmp_path: Path) -> None:
    with start("run tiny.yaml --run-name deaf 2>&-", tmp_path, PYTHONIOENCODING="ascii") as deaf:
        out, _ = deaf.communicate(timeout=300)
    assert deaf.returncode == 0
    assert out.splitlines()[-1] == "runs/deaf"

    with start("run tiny.yaml --run-name left --json", tmp_path) as left:
        assert left.stdout is not None
        assert left.stderr is not None
        left.stdout.close()
        assert left.stderr.read() == ""
    assert left.returncode == 0
    assert (tmp_path / "runs/left/report/results.csv").is_file()


@pytest.mark.slow
def test_sigterm_is_an_interruption(tiny: Path, tmp_path: Path) -> None:
    with start("run tiny.yaml --run-name long --set rounds=100000 --json", tmp_path) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err == "Stopped. Go on with: fedsim resume runs/long\n"
    assert "interrupted" in (tmp_path / "runs/long/log.txt").read_text()


def test_each_site_can_be_left_out_in_turn(fedsim: Any, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    code, shown, err = fedsim("run", tiny, "--leave-one-site-out", "--out", out)
    folder = Path(shown.splitlines()[-1])
    assert code == 0
    assert "without site-00" in err
    assert "site-01" in shown
    assert folder.parent == out
    assert (folder / "leave_one_site_out.md").is_file()
    assert (folder / "00-site-00" / "report" / "results.md").is_file()
    code, shown, _ = fedsim("run", tiny, "--leave-one-site-out", "--out", out, "--json")
    last = json.loads(shown.splitlines()[-1])
    assert {row["site"] for row in last["results"]} == {"site-00", "site-01"}
