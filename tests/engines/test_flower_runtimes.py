"""The three ways through Flower's own processes give equal bits and leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsim.engines.superlink import environment, superlink
from fedsim.records.files import read_lines
from fedsim.scenario import Scenario
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
pytestmark = pytest.mark.slow  # every start of Flower takes ten to thirty seconds
CHECKOUT = Path(__file__).resolve().parents[2]
MARK = "FEDSIM_TEST_MARK"


def bits(folder: Path) -> dict[str, bytes]:
    files = [folder / name for name in ("rounds.jsonl", "metrics.jsonl")]
    files += sorted((folder / "checkpoints").iterdir())
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Mark every process that the test starts, and hold that none of them outlives it for long."""
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    yield value
    deadline = time.monotonic() + 90  # agents of Ray look seldom
    while (left := marked(value)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, left


def marked(value: str) -> dict[int, str]:
    """Return the command lines of all running processes that bear the mark."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            bears = f"{MARK}={value}".encode() in (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            said = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if bears and state != "Z" and int(folder.name) != os.getpid():
            found[int(folder.name)] = said
    return found


def flwr_run(home: Path, *options: str) -> str:
    """Give this checkout to the SuperLink as an app, wait for its end and return what it said."""
    done = subprocess.run(
        ["flwr", "run", ".", "--stream", *options],
        cwd=CHECKOUT,
        env=environment(home),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_run_goes_on_on_the_simulation_runtime(tiny: Make, tmp_path: Path, mark: str) -> None:
    scenario = tiny(baselines=["local"])
    here = run(scenario, out=tmp_path, name="here", device="cpu")

    class Died(Exception):
        pass

    def die(progress: Any) -> None:
        if progress.round == 1:
            raise Died

    with pytest.raises(Died):
        run(scenario, out=tmp_path, name="there", device="cpu", watch=die)
    seen: list[Any] = []
    there = resume(tmp_path / "there", workers=2, engine="flower", watch=seen.append)
    assert bits(there.folder) == bits(here.folder)
    assert [progress.round for progress in seen] == [2, 3]
    assert seen[-1].train_loss == here.rounds[-1]["train_loss"]
    assert seen[-1].evaluated


def test_ctrl_c_ends_the_simulation_runtime(tiny: Make, tmp_path: Path, mark: str) -> None:
    file, folder = tmp_path / "scenario.yaml", tmp_path / "stopped"
    file.write_text(yaml.safe_dump(tiny(rounds=5000).resolved()))
    command = [sys.executable, "-m", "fedsim", "run", file, "--out", tmp_path]
    command += ["--run-name", folder.name, "--device", "cpu", "--engine", "flower"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background
    )
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and not read_lines(folder / "rounds.jsonl"):
        time.sleep(0.2)
    assert len(marked(mark)) > 3
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert f"Go on with: fedsim resume {folder}" in said


def test_flwr_run_simulates(tiny: Make, tmp_path: Path, mark: str) -> None:
    scenario, home = tiny(), tmp_path / "flower"
    here = run(scenario, out=tmp_path, name="here", device="cpu")
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(scenario.resolved()))
    home.mkdir()
    with superlink(home, simulation=True):
        said = flwr_run(
            home,
            "--federation-config",
            "num-supernodes=3 client-resources-num-cpus=1 init-args-num-cpus=2",
            "--run-config",
            f"scenario='{tmp_path}/scenario.yaml' out='{tmp_path}' run-name='there' device='cpu'",
        )
    assert f"fedsim: {tmp_path / 'there'}" in said
    assert bits(tmp_path / "there") == bits(here.folder)
    assert (tmp_path / "there" / "report" / "results.md").exists()


def test_supernodes_train_on_their_own_folders(tmp_path: Path, mark: str) -> None:
    """As the example does it: the images of all are gone from where the simulation had them."""
    folder = tmp_path / "hospitals"
    example = CHECKOUT / "examples" / "hospitals" / "run.py"
    done = subprocess.run(
        [sys.executable, example, folder, "--rounds", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list((folder / "whole").rglob("*.png"))
    simulation, federation = (folder / "runs" / name for name in ("simulation", "federation"))
    assert bits(federation) == bits(simulation)
    splits = {row["split"] for row in read_lines(federation / "metrics.jsonl")}
    assert splits == {"validation", "test", "external"}
