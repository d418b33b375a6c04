"""Flower's own processes on this computer: a SuperLink of our own, and runs that are given to it.

Flower 1.42 deprecates `run_simulation`: its Simulation Runtime is to be reached by `flwr run`,
which gives an app to a SuperLink. `flwr run` can start one by itself, but that stays for ever and
in the folder where it was first called; so this one lives as long as its user, with its own Flower
home, on a port of its own. No telemetry, no look for updates, no installation of packages.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedsim.errors import RunError

QUIET: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment of every process of Flower's that we start."""
START_S = 120.0
"""Seconds that a SuperLink gets to answer."""
CONNECTION = "fedsim"


@contextmanager
def superlink(home: Path, *, simulation: bool = False) -> Iterator[str]:
    """Yield the address of a SuperLink, which ends with the block.

    Args:
        home: an empty folder for Flower's files; `superlink.log` has what it says.
        simulation: whether runs are simulated by Ray; otherwise SuperNodes may connect.

    Raises:
        RunError: if it does not start.
    """
    address = f"127.0.0.1:{free_port()}"
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "{address}"\ninsecure = true\n'
    )
    host, _, port = address.partition(":")
    command = ["flower-superlink", "--insecure", "--host", host, "--port", port]
    with started([*command, *["--simulation"] * simulation], home, "superlink.log") as process:
        _wait_for(address, process, home / "superlink.log")
        yield address


@contextmanager
def supernode(home: Path, address: str, node_config: str, name: str) -> Iterator[None]:
    """Keep a SuperNode connected to a SuperLink; it ends with the block.

    Args:
        home: an empty folder for its files; `NAME.log` has what it says.
        address: of the SuperLink.
        node_config: as `--node-config` takes it.
        name: of the log.
    """
    command = ["flower-supernode", "--insecure", "--superlink", address]
    command += ["--port", str(free_port()), "--node-config", node_config]
    with started(command, home, f"{name}.log"):
        yield


@contextmanager
def started(command: Sequence[str], home: Path, log: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process of Flower's, which ends with the block, or with this process.

    Args:
        command: a program of Flower's and its arguments.
        home: Flower's home.
        log: file there that gets what it says.
    """
    with (home / log).open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "fedsim.engines.leash", *command],
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C in a terminal reaches us alone
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a process of Flower's: this Python, this fedsim, its own home."""
    package = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        **QUIET,
        "FLWR_HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }


def free_port() -> int:
    """Return a port that nobody listens to just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
            return
        except OSError:
            time.sleep(0.1)
    last = log.read_text(errors="replace").strip().splitlines()[-5:]
    raise RunError("Flower's SuperLink does not start; it says: " + "\n".join(last))
