"""Search for an aggregation rule of our own: candidates on a Gram matrix, equally tuned.

    python benchmarks/search_rules.py --results /tmp/rules.md                 # about a minute
    FEDSIM_DATA_DIR=... python benchmarks/search_rules.py --data retinamnist \
        --trials 16 --tuning-seeds 3 --seeds 10 --rounds 15 --processes 2

Every candidate of `rule_search/candidates.py`, FedAvg first, gets the same number of trials, with
the same draws of client and server rate and a draw of its own knob. The best trial by AUROC on
validation images, mean over the tuning seeds, is run again on fresh seeds; the table has its value
there and its difference to FedAvg on the same seeds. A seed decides partition, images or their
division, initial model and batches.

It is a proxy to choose what deserves a study: few sites, few rounds, a small network, validation
images only, many candidates and few seeds, so the best of the table is partly luck. A candidate
counts once it is frozen and confirmed on seeds and data that no search has touched.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import cycle, product
from multiprocessing import get_context

import numpy as np
import torch

import results
from fedsim.scenario import Scenario
from rule_search.candidates import CANDIDATES, NONE, Candidate
from rule_search.proxy import SOURCES, Trial, score, study

CLIENT_RATES = (0.02, 0.05, 0.1, 0.2)
SERVER_RATES = (0.5, 1.0, 1.5, 2.0, 3.0)
REFERENCE = "FedAvg"
FRESH = 1000
"""How far the seeds that tuning never sees are from its own."""


def main() -> None:
    """Tune all candidates, run the best of each on fresh seeds and write the table."""
    parser = results.arguments(__doc__)
    parser.add_argument("--data", choices=SOURCES, default="synthetic")
    parser.add_argument("--alpha", type=float, default=0.3, help="of the Dirichlet partition")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=3, help="of each candidate")
    parser.add_argument("--tuning-seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0, help="of tuning")
    parser.add_argument("--seeds", type=int, default=2, help="fresh ones, two or more")
    parser.add_argument("--only", nargs="*", choices=CANDIDATES, help="beside FedAvg")
    parser.add_argument("--processes", type=int, default=1, help="that share the runs")
    asked = parser.parse_args()
    with ProcessPoolExecutor(
        asked.processes, get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        search(asked, pool)


def search(asked: argparse.Namespace, pool: Executor) -> None:
    """Tune each candidate, run it on fresh seeds, and write the table."""
    names = [REFERENCE, *(n for n in asked.only or CANDIDATES if n != REFERENCE)]
    rows, reference, first = [], [0.0], asked.first_seed
    for name in names:
        start = time.perf_counter()
        trial, tuned = best(name, asked, pool)
        fresh = scores(
            name, [trial], range(first + FRESH, first + FRESH + asked.seeds), asked, pool
        )[0]
        reference = fresh if name == REFERENCE else reference
        gains = [ours - theirs for ours, theirs in zip(fresh, reference, strict=True)]
        rows.append(
            (
                name,
                f"{trial.client_rate:g}",
                f"{trial.server_rate:g}",
                f"{trial.knob:g}" if CANDIDATES[name].knobs != NONE else "none",
                f"{tuned:.3f}",
                spread(fresh),
                "reference" if name == REFERENCE else spread(gains, "+.3f"),
            )
        )
        print(f"{' | '.join(rows[-1])} ({time.perf_counter() - start:.0f} s)", flush=True)
    columns = ("rule", "client rate", "server rate", "knob", "AUROC when tuned", "on fresh seeds")
    results.write(
        asked.results,
        f"Search for a rule, {asked.data}",
        (*columns, "to FedAvg"),
        rows,
        note=f"Validation AUROC after {asked.rounds} rounds, 5 sites, Dirichlet "
        f"{asked.alpha:g}; {asked.trials} trials each on {asked.tuning_seeds} seeds, then "
        f"{asked.seeds} fresh seeds: mean ± standard deviation.",
    )


def best(name: str, asked: argparse.Namespace, pool: Executor) -> tuple[Trial, float]:
    """Return the candidate's best trial on the tuning seeds, and its mean value there."""
    tried = trials(CANDIDATES[name], asked.trials)
    seeds = range(asked.first_seed, asked.first_seed + asked.tuning_seeds)
    values = scores(name, tried, seeds, asked, pool)
    means = [statistics.mean(of_trial) for of_trial in values]
    return max(zip(tried, means, strict=True), key=lambda pair: pair[1])


def trials(candidate: Candidate, count: int) -> list[Trial]:
    """Return trials: the same rates for all candidates, knobs in turn from a draw of their own.

    The first has the rates that anyone would try, so that few trials are no lottery.
    """
    rates = np.random.default_rng(0)
    grid = [(c, s) for c in CLIENT_RATES for s in SERVER_RATES if (c, s) != (0.1, 1.0)]
    order = [(0.1, 1.0), *(grid[i] for i in rates.permutation(len(grid)))]
    knobs = np.random.default_rng(1).permutation(np.resize(candidate.knobs, count))
    return [
        Trial(client_rate, server_rate, float(knob))
        for (client_rate, server_rate), knob in zip(cycle(order), knobs, strict=False)
    ]


def scores(
    name: str,
    tried: Sequence[Trial],
    seeds: Sequence[int],
    asked: argparse.Namespace,
    pool: Executor,
) -> list[list[float]]:
    """Return the values of each trial, by seed."""
    runs = [
        (name, trial, study(asked.data, seed, asked.rounds, asked.alpha, trial.client_rate))
        for trial, seed in product(tried, seeds)
    ]
    values, count = [*pool.map(run, runs)], len(seeds)
    return [values[start : start + count] for start in range(0, len(values), count)]


def run(asked: tuple[str, Trial, Scenario]) -> float:
    """Return the value of one trial on one seed."""
    name, trial, scenario = asked
    return score(CANDIDATES[name], trial, scenario)


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Return mean and standard deviation over seeds."""
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    main()
