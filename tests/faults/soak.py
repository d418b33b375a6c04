"""Many rounds of a tiny run: memory and open files stay as they are after the first tenth.

    python -m tests.faults.soak --rounds 2000

One line of JSON is written for every tenth of the rounds, and one at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fedsim.flower.server_app import Progress
from fedsim.scenario import from_data
from fedsim.simulate import run

SCENARIO: dict[str, Any] = {
    "version": 1,
    "name": "soak",
    "data": {
        "source": {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 60},
        "task": "binary",
    },
    "population": {"num_sites": 2, "partition": {"kind": "iid"}},
    "model": {"kind": "mlp", "widths": [4]},
    "client": {"steps": 1, "batch_size": 8, "optimizer": {"kind": "sgd", "learning_rate": 0.01}},
}
MOST_MB_PER_1000_ROUNDS = 10.0
"""Growth of resident memory from the first tenth on that is taken for none."""


def resident_mb() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def num_open() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> int:
    """Run, and return 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    seen: list[dict[str, Any]] = []
    begin = time.monotonic()

    def watch(progress: Progress) -> None:
        if not progress.stage and progress.round and progress.round % (rounds // 10) == 0:
            at = {"round": progress.round, "resident_mb": resident_mb(), "open_files": num_open()}
            seen.append(at)
            _say({**at, "seconds": round(time.monotonic() - begin)})

    evaluation = {"every": rounds // 10, "num_resamples": 0}
    scenario = from_data({**SCENARIO, "rounds": rounds, "evaluation": evaluation}, "soak")
    with tempfile.TemporaryDirectory() as folder:
        record = run(scenario, out=folder, name="run", device="cpu", watch=watch)
        finished = record.finished and len(record.rounds) == rounds
    num = seen[-1]["round"] - seen[0]["round"]
    grown = {
        "mb_per_1000_rounds": 1000 * (seen[-1]["resident_mb"] - seen[0]["resident_mb"]) / num,
        "open_files": seen[-1]["open_files"] - seen[0]["open_files"],
    }
    flat = grown["mb_per_1000_rounds"] <= MOST_MB_PER_1000_ROUNDS and grown["open_files"] <= 0
    _say({"rounds": rounds, "finished": finished, "grown": grown, "flat": flat})
    return int(not (finished and flat))


def _say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
