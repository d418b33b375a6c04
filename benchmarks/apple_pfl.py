"""Rounds of fedsim beside rounds of Apple's pfl on the same federation.

    python benchmarks/apple_pfl.py [--venv runs/pfl-venv]

The task of pfl's own benchmark on CIFAR-10, with random pixels: 1000 users of 50 images (3 x 32 x
32, 10 classes), 50 of them in a round, batch size 10, one epoch of SGD, mean weighted by examples;
its two networks; in one process and in two, with one thread each. Nothing is evaluated in a round
that counts. pfl lives in an environment of its own, which is made where it is missing, because it
needs another dp-accounting. fedsim's rounds include its records and its checkpoint on disk, and it
shuffles; pfl writes nothing and takes every user's images in the same order.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

import results
from pfl_race.task import IMAGE_SIZE, NETWORKS, NUM_CHANNELS, NUM_CLASSES, NUM_EXAMPLES, NUM_USERS
from turns import Side, quotient, take_turns

HERE = Path(__file__).absolute().parent
SIDES = HERE / "pfl_race"
PFL_VERSION = "0.6.0"
PORTS = (29511, 29512)
TARGETS = {1: 1.0, 2: 1.1}
"""Processes -> how many times faster than pfl a round is promised to be."""


def main() -> None:
    """Race every network in one process and in two, and write the table."""
    parser = results.arguments(__doc__)
    parser.add_argument("--venv", type=Path, default=Path("runs/pfl-venv"), help="pfl's own")
    parser.add_argument("--rounds", type=int, default=9, help="that count")
    parser.add_argument("--warmup", type=int, default=2, help="rounds before, that do not")
    arguments = parser.parse_args()
    num_rounds = arguments.warmup + arguments.rounds + 1  # the last, which evaluates, never comes
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npz"
        make_images(file)
        python = prepared(arguments.venv)
        for network in NETWORKS:
            for num, target in TARGETS.items():
                sides = (
                    fedsim_side(file, network, num_rounds, num),
                    pfl_side(python, file, network, num_rounds, num),
                )
                ours, theirs = take_turns(sides, arguments.warmup, arguments.rounds)
                times = [f"{median(column):.3f}" for column in (ours, theirs)]
                faster = quotient(theirs, ours)
                rows.append((network, str(num), *times, f"{faster:.2f}", f"{target:.1f}"))
    results.write(
        arguments.results,
        "Against Apple's pfl",
        ("network", "processes", "fedsim, s a round", "pfl, s a round", "pfl / fedsim", "promised"),
        rows,
        note=f"Medians of {arguments.rounds} rounds each, in turn; of the quotient, the median "
        "over pairs of neighbours.",
        also=[f"pfl {PFL_VERSION}"],
    )


def make_images(file: Path) -> None:
    """Write random pixels: the users' images and a few to evaluate on, all classes alike."""
    rng = np.random.default_rng(0)
    sizes = {"train": NUM_USERS * NUM_EXAMPLES, "validation": 100, "test": 100}
    num = sum(sizes.values())
    np.savez(
        file,
        pixels=rng.integers(0, 256, (num, NUM_CHANNELS, IMAGE_SIZE, IMAGE_SIZE), np.uint8),
        labels=np.arange(num) % NUM_CLASSES,
        splits=np.repeat(list(sizes), list(sizes.values())),
    )


def prepared(folder: Path) -> Path:
    """Return the Python of pfl's environment, which is made if it is not there."""
    python = folder.absolute() / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        torch = f"torch=={version('torch').partition('+')[0]}"
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", f"pfl=={PFL_VERSION}", torch], check=True
        )
    return python


def fedsim_side(file: Path, network: str, num_rounds: int, num: int) -> Side:
    """Return fedsim with so many workers."""
    command = [sys.executable, str(SIDES / "ours.py"), str(file), network, str(num_rounds)]
    return Side([*command, str(num)], [paths()])


def pfl_side(python: Path, file: Path, network: str, num_rounds: int, num: int) -> Side:
    """Return pfl in so many processes."""
    command = [str(python), str(SIDES / "theirs.py"), str(file), network, str(num_rounds)]
    if num == 1:
        return Side(command, [paths()])
    addresses = ",".join(f"localhost:{port}" for port in PORTS[:num])
    return Side(
        command,
        [
            {**paths(), "PFL_WORKER_ADDRESSES": addresses, "PFL_WORKER_RANK": str(rank)}
            for rank in range(num)
        ],
    )


def paths() -> dict[str, str]:
    """Return what lets a side find this folder."""
    return {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}


if __name__ == "__main__":
    main()
