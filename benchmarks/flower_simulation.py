"""fedsim beside Flower's Simulation Runtime: per round, and whole commands.

    python benchmarks/flower_simulation.py            (needs the extra `ray`)

The small federation of `federation.py` for five rounds, in two processes with one thread each. One
command follows the other, again and again:

- `workers`: `fedsim run SCENARIO --workers 2`.
- `plain`: apps as users of Flower write them, `flower_race/plain.py`; they evaluate nothing.

Of the rounds, the first one (which warms up) and the last one (in which fedsim evaluates) do not
count; the whole command is everything, with start, evaluation and all that it writes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import results
import torch
import yaml
from federation import data, study
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
    for model, promised in TARGETS.items():
        with tempfile.TemporaryDirectory() as folder:
            task = prepared(Path(folder), model)
            runs = [
                {side: timed(side, task, task / f"{side}-{n}") for side in SIDES}
                for n in range(arguments.repeats)
            ]
        for side in list(SIDES)[1:]:
            cells = []
            for part in (0, 1):
                ours, theirs = ([run[s][part] for run in runs] for s in ("workers", side))
                cells += [f"{median(ours):.3f}", f"{median(theirs):.3f}"]
                cells += [f"{quotient(theirs, ours):.2f}", f"{promised[part]:.1f}"]
            rows.append((model, side, *cells))
    comparison = ("fedsim, s", "Flower, s", "Flower / fedsim", "promised")
    results.write(
        arguments.results,
        "Against Flower's Simulation Runtime",
        ("model", "apps", *(f"{part}: {what}" for part in ("round", "whole") for what in comparison)),
        rows,
        note=f"{NUM_ROUNDS} rounds; medians of {arguments.repeats} commands of each side, in turn.",
    )


def prepared(folder: Path, model: str) -> Path:
    """Write what the sides need into a folder and return it."""
    scenario = study(model, NUM_ROUNDS)
    (folder / "scenario.yaml").write_text(yaml.safe_dump(scenario.resolved()), encoding="utf-8")
    torch.save(data(scenario), folder / "sites.pt")
    return folder


def workers(task: Path, out: Path) -> list[str]:
    """Return the command of fedsim with two workers."""
    return fedsim(task, out, "--workers", "2")


def plain(task: Path, out: Path) -> list[str]:
    """Return the command of plain apps on Flower's runtime."""
    out.mkdir()
    return [sys.executable, PLAIN, str(task / "sites.pt"), str(NUM_ROUNDS), str(out / TIMING)]


SIDES = {"workers": workers, "plain": plain}


def fedsim(task: Path, out: Path, *options: str) -> list[str]:
    """Return the command that runs the scenario, with its run folder at `out`."""
    place = ("--out", str(out.parent), "--run-name", out.name)
    command = (sys.executable, "-m", "fedsim", "run", str(task / "scenario.yaml"))
    return [*command, "--device", "cpu", *place, *options]


def timed(side: str, task: Path, out: Path) -> tuple[float, float]:
    """Return the median seconds of a command's counted rounds, and those of the whole command."""
    command = SIDES[side](task, out)
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
