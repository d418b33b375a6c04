"""What a round costs beside a bare PyTorch loop that does the same steps.

    python benchmarks/rounds.py [--workers 2]

The small federation of `federation.py`; each side in a process of its own with one thread (fedsim
with more workers has as many processes more), turn and turn about. The ratio is the median over
rounds of fedsim's round / the bare loop's round. A round of fedsim is everything between two rounds
of a run: messages, training, aggregation, records and the checkpoint on disk. Evaluation, which the
bare loop does not do, happens before the first round and after the last one, which is never run.
The loss decomposition is off.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import results
from federation import MODELS
from turns import Side, quotient, take_turns

FEDERATION = str(Path(__file__).absolute().parent / "federation.py")
BOUNDS = {(1, "small_cnn"): 1.05, (1, "mlp"): 1.25, (2, "small_cnn"): 0.58}
"""(Workers, model) -> the largest ratio that is promised."""


def main() -> None:
    """Write one row per model, and fail if a bound is broken."""
    parser = results.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="that count")
    parser.add_argument("--warmup", type=int, default=3, help="rounds before, that do not")
    parser.add_argument("--workers", type=int, default=1, help="processes on fedsim's side")
    arguments = parser.parse_args()
    num_rounds = str(arguments.warmup + arguments.rounds + 1)
    rows, held = [], True
    for model in MODELS:
        sides = [
            Side([sys.executable, FEDERATION, "fedsim", model, num_rounds, str(arguments.workers)]),
            Side([sys.executable, FEDERATION, "bare", model, num_rounds]),
        ]
        ours, bare = take_turns(sides, arguments.warmup, arguments.rounds)
        ratio, bound = quotient(ours, bare), BOUNDS.get((arguments.workers, model))
        times = [f"{median(column):.3f}" for column in (ours, bare)]
        rows.append((model, *times, f"{ratio:.3f}", "" if bound is None else f"{bound}"))
        held &= bound is None or ratio <= bound
    results.write(
        arguments.results,
        f"Against a bare loop, {arguments.workers} of fedsim's processes at work",
        ("model", "fedsim, s a round", "bare loop, s a round", "fedsim / bare", "at most"),
        rows,
        note=f"Medians of {arguments.rounds} rounds, in turn.",
    )
    if not held:
        raise SystemExit("a bound does not hold")


if __name__ == "__main__":
    main()
