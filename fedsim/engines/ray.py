"""Flower's Simulation Runtime: clients are actors of Ray's, on as many machines as Ray has.

A SuperLink of our own gets the run, and Flower starts a process that holds the ServerApp and Ray's
driver; it goes on with the run folder, which exists already, as `fedsim resume` would.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from fedsim.data.source import POOLED
from fedsim.engines import superlink
from fedsim.errors import DivergedError, InputError, RunError
from fedsim.flower.server_app import Progress, Watcher
from fedsim.records import RunRecord, read
from fedsim.records.files import read_lines

WATCH_S = 0.2
"""Seconds between looks at the run folder."""
APP = """\
[project]
name = "fedsim-run"
version = "1"

[tool.flwr.app]
publisher = "fedsim"

[tool.flwr.app.components]
serverapp = "fedsim.apps:server"
clientapp = "fedsim.apps:client"

[tool.flwr.app.config]
"""
"""An app without files of its own: what is installed here is what runs."""


def check(devices: Sequence[torch.device]) -> None:
    """Refuse what this engine cannot do.

    Raises:
        InputError: if Ray is missing, or some GPUs alone are asked for.
    """
    if find_spec("ray") is None:
        raise InputError(
            "the engine flower needs Ray, which is not installed: "
            "pip install 'fedsim-medical[ray]', or use the engine own"
        )
    numbers = {device.index for device in devices if device.type == "cuda"} - {None}
    if numbers and len(numbers) < torch.cuda.device_count():
        raise InputError(
            f"device {','.join(map(str, devices))}: with the engine flower, Ray gives clients GPUs "
            "of its choice: use cuda, and CUDA_VISIBLE_DEVICES for some alone"
        )


def execute(
    folder: Path, num_sites: int, workers: int | Literal["auto"], device: str, watch: Watcher
) -> None:
    """Go on with a run to its end.

    Args:
        folder: of the run.
        num_sites: Flower's virtual SuperNodes.
        workers: actors; `auto`, or a cluster that RAY_ADDRESS names, are as many as there are
            processors (or, on GPUs, one for each GPU).
        device: type of where to compute; this computer's GPUs are shared in equal parts.
        watch: called after every round.

    Raises:
        RunError: if the run fails.
    """
    resources: dict[str, float] = {"num-supernodes": num_sites, "client-resources-num-cpus": 1}
    given = None if workers == "auto" or "RAY_ADDRESS" in os.environ else workers
    if given is not None:
        resources["init-args-num-cpus"] = given
    if device == "cuda":
        resources["client-resources-num-gpus"] = torch.cuda.device_count() / given if given else 1
    options: dict[str, str | bool] = {
        "resume": str(folder.resolve()),
        "device": device,
        "report": False,
    }
    with tempfile.TemporaryDirectory(prefix="fedsim-") as temporary:
        home, app = Path(temporary, "flower"), Path(temporary, "app")
        home.mkdir()
        app.mkdir()
        (app / "pyproject.toml").write_text(APP + _toml(options))
        command = ["flwr", "run", str(app), "--stream", "--federation-config"]
        command.append(" ".join(f"{name}={value}" for name, value in resources.items()))
        with superlink.superlink(home, simulation=True):
            with superlink.started(command, home, "run.log") as process:
                _follow(folder, process, watch)
            said = (home / "run.log").read_text(errors="replace")
    if not read(folder).finished:
        raise _failure(folder, said)


def _follow(folder: Path, process: subprocess.Popen[bytes], watch: Watcher) -> None:
    """Tell of every round that is recorded until the process ends."""
    timing = folder / "timing.jsonl"
    told = len(read_lines(timing))
    running = True
    while running:
        time.sleep(WATCH_S)
        running = process.poll() is None
        rows = read_lines(timing)[told:]
        record = read(folder) if rows else None
        for row in rows:
            assert record is not None
            watch(_progress(record, row["round"]))
        told += len(rows)


def _progress(record: RunRecord, round: int) -> Progress:
    metric, scenario = record.scenario["evaluation"]["select_by"], record.scenario
    values = [
        row["value"]
        for row in record.metrics
        if (row["round"], row["split"], row["site"], row["metric"])
        == (round, "validation", POOLED, metric)
    ]
    loss = next((row["train_loss"] for row in record.rounds if row["round"] == round), None)
    value = values[0] if values else None
    return Progress(round, scenario["rounds"], loss, metric, bool(values), value)


def _failure(folder: Path, said: str) -> RunError:
    """Return why a run stopped: what it wrote into its log, or what Flower said last."""
    log = folder / "log.txt"
    text = log.read_text(errors="replace") if log.exists() else ""
    found = re.search(r"^fedsim\.errors\.(\w+): ((?:(?!^\d{4}-).*\n?)*)\Z", text, re.MULTILINE)
    if found:
        kind = DivergedError if found[1] == "DivergedError" else RunError
        return kind(found[2].strip())
    last = "\n".join(said.strip().splitlines()[-15:])
    return RunError(f"Flower's Simulation Runtime stopped; it said last:\n{last}")


def _toml(options: dict[str, str | bool]) -> str:
    """Return options as TOML, whose strings and truths are written as JSON's."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
