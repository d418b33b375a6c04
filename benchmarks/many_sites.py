"""What a million sites cost against a thousand, where fifty take part in a round.

    python benchmarks/many_sites.py [--turns 5] [--rounds 20]

Sites draw 20 synthetic 28 x 28 images each from the same pool; an MLP 784-64-2 trains on them for
an epoch, in batches of 10. In every turn each side has a new process, and their rounds alternate.
Start: from the start of the process to the end of round 0. Fails if a bound breaks. About two
minutes.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import results
from fedsim.data.resampled import Resampled
from fedsim.data.synthetic import Synthetic
from fedsim.models import Mlp
from fedsim.scenario import Client, Data, Evaluation, FixedSize, HeldOut, Scenario, Sites
from fedsim.simulate import run

FEW, MANY = 1_000, 1_000_000
NOT_COUNTED = 3
"""First rounds of a turn, which warm up."""
LARGEST_RATIO, LONGEST_START_S, MOST_BYTES = 1.1, 10.0, 2**30


@dataclass(frozen=True)
class Turn:
    """What one turn of both sides took, by their number of sites.

    Args:
        start_s: from the start of the process to the end of round 0.
        rounds_s: every counted round.
        peak_bytes: resident memory at most.
    """

    start_s: dict[int, float]
    rounds_s: dict[int, list[float]]
    peak_bytes: dict[int, int]


def study(num_sites: int, rounds: int) -> Scenario:
    """Return the scenario that both sides run."""
    return Scenario(
        version=1,
        name="benchmark-many-sites",
        rounds=rounds,
        data=Data(
            source=Synthetic(anatomy="chest", image_size=28, num_examples=5000), task="binary"
        ),
        population=Sites(
            num_sites=num_sites,
            partition=Resampled(examples_per_site=20),
            held_out=HeldOut(validation=0.05, test=0.05),
        ),
        model=Mlp(widths=(64,)),
        client=Client(epochs=1, batch_size=10),
        cohort=FixedSize(num_sites=50),
        evaluation=Evaluation(every=rounds, loss_decomposition=False, num_resamples=0),
    )


def work(pipe: Connection[Any, Any], num_sites: int, rounds: int) -> None:
    """Run; after every round send its seconds and wait to go on, at the end send the memory."""
    begun = time.perf_counter()

    def watch(progress: Any) -> None:
        nonlocal begun
        if not progress.stage:
            pipe.send(time.perf_counter() - begun)
            pipe.recv()
            begun = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        run(study(num_sites, rounds), out=folder, device="cpu", watch=watch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send(peak if sys.platform == "darwin" else peak * 1024)


class Side:
    """One side in a process of its own, at a standstill after every round."""

    def __init__(self, num_sites: int, rounds: int) -> None:
        context, begun = get_context("spawn"), time.perf_counter()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, num_sites, rounds))
        self._process.start()
        theirs.close()
        self._pipe.recv()
        self.start_s = time.perf_counter() - begun

    def round(self) -> float:
        """Let the next round run and return its seconds."""
        self._pipe.send(None)
        seconds: float = self._pipe.recv()
        return seconds

    def end(self) -> int:
        """Let the run end and return its peak memory."""
        self._pipe.send(None)
        peak: int = self._pipe.recv()
        self._process.join()
        return peak


def turn(rounds: int) -> Turn:
    """Run both sides once."""
    sides = {num: Side(num, rounds) for num in (FEW, MANY)}
    seconds: dict[int, list[float]] = {num: [] for num in sides}
    for _ in range(rounds):
        for num, side in sides.items():
            seconds[num].append(side.round())
    return Turn(
        {num: side.start_s for num, side in sides.items()},
        {num: found[NOT_COUNTED:-1] for num, found in seconds.items()},
        {num: side.end() for num, side in sides.items()},
    )


def _texts(values: dict[int, float], form: str, factor: int = 1) -> list[str]:
    return [format(factor * value, form) for value in values.values()]


def main() -> None:
    """Write what a million sites are of a thousand, and fail if a bound is broken."""
    parser = results.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20, help="of every turn, more than four")
    arguments = parser.parse_args()
    turns = [turn(arguments.rounds) for _ in range(arguments.turns)]
    starts = {num: median(t.start_s[num] for t in turns) for num in (FEW, MANY)}
    rounds = {num: median(s for t in turns for s in t.rounds_s[num]) for num in (FEW, MANY)}
    peaks = {num: median(t.peak_bytes[num] for t in turns) / 2**20 for num in (FEW, MANY)}
    ratio = median(
        many / few
        for t in turns
        for few, many in zip(t.rounds_s[FEW], t.rounds_s[MANY], strict=True)
    )
    more = median(t.peak_bytes[MANY] - t.peak_bytes[FEW] for t in turns)
    results.write(
        arguments.results,
        "A million sites against a thousand",
        ("what", f"{FEW:,} sites", f"{MANY:,} sites", "compared", "at most"),
        [
            ("a round, ms", *_texts(rounds, ".1f", 1000), f"{ratio:.3f} x", "1.1 x"),
            ("start, s", *_texts(starts, ".2f"), "", "10"),
            ("peak memory, MiB", *_texts(peaks, ".0f"), f"{more / 2**20:+.0f}", "+1024"),
        ],
        note=f"Cohorts of 50. Medians of {arguments.turns} processes of each side, whose rounds "
        "alternate.",
    )
    if ratio > LARGEST_RATIO or starts[MANY] > LONGEST_START_S or more > MOST_BYTES:
        raise SystemExit("a bound does not hold")


if __name__ == "__main__":
    main()
