"""What a run holds in memory: over many rounds, and with a larger cohort.

    python benchmarks/memory.py

Over rounds: the least-squares slope of the memory after each of the last 200 rounds of a small run,
in one process and with two workers. The rounds before let Python's garbage collector look through
its oldest objects twice, which takes some 250 and 750 rounds; until then, up to 2 MiB of Flower's
records, which refer to themselves, lie there. Every run gives one slope, so their mean has a
standard error that does not lean on what happens inside a run.

With the cohort: the highest memory of a run with a model of 25 million parameters (weighted mean,
one step per site) at cohorts of 20 and of 200 of the same 200 sites, in units of one model.

Memory is the proportional set size of all processes of a run (Linux): what several of them share
counts once. The code of libraries is left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev

import numpy as np

import results
from memory_run import NUM_PARAMETERS
from process_memory import held, sampled

RUN = Path(__file__).absolute().parent / "memory_run.py"
COHORTS = (20, 200)
MODELS_BOUND = 1.5
PAUSE_S = 0.02
MEASURED = 200
"""Rounds at the end of a run whose memory is looked at."""


def main() -> None:
    """Measure both and write the tables."""
    parser = results.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=1200, help="of a run, more than 200")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each kind")
    arguments = parser.parse_args()
    repeats = range(arguments.repeats)
    rows = []
    for workers in (1, 2):
        slopes = [slope(arguments.rounds, workers) for _ in repeats]
        error = stdev(slopes) / len(slopes) ** 0.5
        rows.append(
            (str(workers), f"{mean(slopes):+.2f}", f"{error:.2f}", f"{mean(slopes) / error:+.1f}")
        )
    results.write(
        arguments.results,
        "Memory over rounds",
        ("workers", "slope, KiB a round", "standard error", "slope / error"),
        rows,
        note=f"The last {MEASURED} of {arguments.rounds} rounds at 20 sites, evaluated in every "
        f"round; mean of {arguments.repeats} runs. Promised: no slope beyond its error.",
    )
    peaks = [[peak(num_sites) for num_sites in COHORTS] for _ in repeats]
    more = [(large - small) / (4 * NUM_PARAMETERS) for small, large in peaks]
    small, large = (median(column) / 2**20 for column in zip(*peaks, strict=True))
    results.write(
        arguments.results,
        "Memory with the cohort",
        (*(f"peak at {num} sites, MiB" for num in COHORTS), "more, in models", "promised"),
        [(f"{small:.0f}", f"{large:.0f}", f"{median(more):+.2f}", f"below {MODELS_BOUND}")],
        note=f"{NUM_PARAMETERS:,} parameters; medians of {arguments.repeats} runs, in turn.",
    )


def slope(num_rounds: int, workers: int) -> float:
    """Return by how many KiB a run grows in a round."""
    command = [sys.executable, str(RUN), "rounds", str(num_rounds), str(workers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    sizes = np.array(json.loads(done.stdout))[-MEASURED:] / 2**10
    return float(np.polyfit(np.arange(len(sizes)), sizes, 1)[0])


def peak(num_sites: int) -> int:
    """Return the most bytes that a run with this cohort holds."""
    process = subprocess.Popen([sys.executable, RUN, "cohort", str(num_sites)])
    with sampled(partial(held, process.pid), PAUSE_S) as sizes:
        status = process.wait()
    if status:
        raise SystemExit(f"the run with a cohort of {num_sites} ended with {status}")
    return max(sizes)


if __name__ == "__main__":
    main()
