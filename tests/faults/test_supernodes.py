"""SuperNodes that end, or stand still, in the middle of a round."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from fedsim.engines.leash import _on_leash
from fedsim.engines.superlink import environment, free_port, started, superlink
from fedsim.records.files import read_lines
from fedsim.scenario import Scenario
from fedsim.simulate import resume, run
from tests.faults.trees import tree

Make = Callable[..., Scenario]
pytestmark = pytest.mark.slow  # every message starts a process
CHECKOUT = Path(__file__).resolve().parents[2]
SOON_MISSED = """
import sys
from flwr.supercore import heartbeat
from flwr.supernode import fleet_http_connection
from flwr.supernode.cli import flower_supernode
heartbeat.HEARTBEAT_DEFAULT_INTERVAL = fleet_http_connection.HEARTBEAT_DEFAULT_INTERVAL = 10
sys.exit(flower_supernode())
"""
"""A SuperNode that is missed after 20 s, Flower's least, and not after 60."""
TWO = {"population": {"num_sites": 2}, "evaluation": {"every": 3}}
"""As few processes as can be: a site, a round and an evaluation cost some seconds each."""
PATIENCE_S = 240.0


def wait_for(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


class Node:
    """One site's SuperNode and all that it starts."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log

    def wait_for_training(self, round: int) -> None:
        said = "Receiving: train message"
        wait_for(lambda: self._log.read_text().count(said) >= round, f"{said} {round}")

    def signal(self, number: signal.Signals) -> None:
        for process in _on_leash(self._process.pid):
            os.kill(process, number)

    def kill(self) -> None:
        self._process.kill()
        while _on_leash(self._process.pid):
            self.signal(signal.SIGKILL)


@contextmanager
def nodes(home: Path) -> Iterator[list[Node]]:
    """Keep a SuperLink, and SuperNodes for two sites."""
    home.mkdir()
    with ExitStack() as stack:
        address, found = stack.enter_context(superlink(home)), []
        for site in range(2):
            command = [sys.executable, "-c", SOON_MISSED, "--insecure", "--superlink", address]
            command += ["--port", str(free_port())]
            command += ["--node-config", f"partition-id={site} num-partitions=2"]
            log = f"site-{site}.log"
            found.append(Node(stack.enter_context(started(command, home, log)), home / log))
        yield found


@contextmanager
def given(home: Path, scenario: Scenario, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a scenario to the SuperLink; the run folder is `out/there`."""
    file = home / "scenario.yaml"
    file.write_text(yaml.safe_dump(scenario.resolved()))
    config = f"scenario='{file}' out='{out}' run-name='there' device='cpu' report=false"
    process = subprocess.Popen(
        ["flwr", "run", ".", "--stream", "--run-config", config],
        cwd=CHECKOUT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_killed_supernode_is_told_and_the_run_goes_on_to_the_same_bits(
    tiny: Make, tmp_path: Path
) -> None:
    """Before, another one stands still for a moment, which only costs time."""
    scenario, home, there = tiny(rounds=2, **TWO), tmp_path / "flower", tmp_path / "there"
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    with nodes(home) as (slow, ends), given(home, scenario, tmp_path) as process:
        slow.wait_for_training(1)
        slow.signal(signal.SIGSTOP)
        time.sleep(3)
        slow.signal(signal.SIGCONT)
        ends.wait_for_training(2)
        ends.kill()
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert "fedsim: round 2: site-01 failed to train: Error: Node Unavailable" in said
    assert f"flwr run . --stream --run-config \"resume='{there}'\"" in said
    assert said.count("Traceback") == 1, "Flower's own"
    assert [row["round"] for row in read_lines(there / "rounds.jsonl")] == [1]
    assert tree(resume(there).folder) == tree(whole.folder)


def test_a_supernode_that_stands_still_is_dropped_and_comes_back(
    tiny: Make, tmp_path: Path
) -> None:
    home, journal = tmp_path / "flower", tmp_path / "there" / "rounds.jsonl"
    scenario = tiny(rounds=3, on_client_failure="drop", **TWO)
    with nodes(home) as (_, stops), given(home, scenario, tmp_path) as process:
        stops.wait_for_training(1)
        stops.signal(signal.SIGSTOP)
        wait_for(lambda: journal.exists() and bool(read_lines(journal)), "round 1")
        stops.signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=PATIENCE_S)
    dropped = [row["dropped"] for row in read_lines(journal)]
    assert (len(dropped), dropped[0], dropped[-1]) == (3, ["site-01"], []), said
    assert f"fedsim: {journal.parent}" in said
