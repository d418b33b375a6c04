"""fedsim beside Flower's Simulation Runtime: per round, and whole commands.

    python benchmarks/flower_simulation.py            (needs the extra `ray`)

The small federation of `federation.py` for five rounds, in two processes with one thread each; the
sites evaluate every round, or none that counts. One command follows the other, again and again:

- `workers`: `fedsim run SCENARIO --workers 2`.
- `plain`: apps as users of Flower write them, `flower_race/plain.py`.
- `same`: fedsim's own apps on that runtime, `fedsim run SCENARIO --workers 2 --engine flower`.

Of the rounds, the first one (which warms up) and the last one (in which fedsim always evaluates) do
not count; the whole command is everything, with start, records and report.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median

import torch
import yaml

import results
from federation import examples, network, study
from fedsim.data.source import HELD_OUT
from turns import quotient

PLAIN = str(Path(__file__).absolute().parent / "flower_race" / "run_plain.py")
NUM_ROUNDS = 5
TARGETS = {"small_cnn": (1.6, 2.0), "mlp": (8.0, 6.0)}
"""Model -> how many times faster a round, and the whole command, is promised to be."""
TIMING = "timing.jsonl"
"""Where every side leaves the seconds of its rounds, in the folder that it is given."""


def main() -> None:
    """Race both models and write the table."""
    parser = results.arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="commands of each side")
    arguments = parser.parse_args()
    rows = []
    for model, evaluates in product(TARGETS, (True, False)):
        with tempfile.TemporaryDirectory() as folder:
            task = Path(folder)
            prepare(task, model, evaluates)
            runs = [
                {side: timed(side, task, evaluates, task / f"{side}-{n}") for side in SIDES}
                for n in range(arguments.repeats)
            ]
        for side in list(SIDES)[1:]:
            cells = [model, side, "every round" if evaluates else "never"]
            for part, promised in enumerate(TARGETS[model]):
                ours, theirs = ([run[s][part] for run in runs] for s in ("workers", side))
                cells += [f"{median(ours):.3f}", f"{median(theirs):.3f}"]
                cells += [f"{quotient(theirs, ours):.2f}", f"{promised:.1f}"]
            rows.append(cells)
    parts = [
        f"{part}: {column}"
        for part in ("round", "whole")
        for column in ("fedsim, s", "Flower, s", "Flower / fedsim", "promised")
    ]
    results.write(
        arguments.results,
        "Against Flower's Simulation Runtime",
        ("model", "Flower's apps", "evaluated", *parts),
        rows,
        note=f"{NUM_ROUNDS} rounds; medians of {arguments.repeats} commands of each side, in turn.",
        also=[f"Ray {version('ray')}"],
    )


def prepare(folder: Path, model: str, evaluates: bool) -> None:
    """Write what the sides need into a folder."""
    scenario = study(model, NUM_ROUNDS, every=1 if evaluates else None)
    (folder / "scenario.yaml").write_text(yaml.safe_dump(scenario.resolved()), encoding="utf-8")
    held_out = [
        tuple(map(torch.cat, zip(*parts, strict=True)))
        for parts in zip(*(examples(scenario, split) for split in HELD_OUT), strict=True)
    ]
    torch.save((network(scenario), examples(scenario, "train"), held_out), folder / "task.pt")


def workers(task: Path, evaluates: bool, out: Path) -> list[str]:
    """Return the command of fedsim with two workers."""
    return fedsim(task, out, "--workers", "2")


def plain(task: Path, evaluates: bool, out: Path) -> list[str]:
    """Return the command of plain apps on Flower's runtime."""
    out.mkdir()
    options = [str(NUM_ROUNDS), str(float(evaluates)), str(out / TIMING)]
    return [sys.executable, PLAIN, str(task / "task.pt"), *options]


def same(task: Path, evaluates: bool, out: Path) -> list[str]:
    """Return the command of fedsim's apps on Flower's runtime."""
    return fedsim(task, out, "--workers", "2", "--engine", "flower")


SIDES = {"workers": workers, "plain": plain, "same": same}


def fedsim(task: Path, out: Path, *options: str) -> list[str]:
    """Return the command that runs the scenario, with its run folder at `out`."""
    place = ("--out", str(out.parent), "--run-name", out.name)
    command = (sys.executable, "-m", "fedsim", "run", str(task / "scenario.yaml"))
    return [*command, "--device", "cpu", *place, *options]


def timed(side: str, task: Path, evaluates: bool, out: Path) -> tuple[float, float]:
    """Return the median seconds of a command's counted rounds, and those of the whole command."""
    command = SIDES[side](task, evaluates, out)
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    whole = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}")
    lines = (out / TIMING).read_text(encoding="utf-8").splitlines()
    seconds = {row["round"]: row["seconds"] for row in map(json.loads, lines)}
    return median(seconds[round] for round in range(2, NUM_ROUNDS)), whole


if __name__ == "__main__":
    main()
