"""`kill -9` at random moments: what is resumed has the bits of a run that nothing disturbed.

    python -m tests.faults.kills --num 50

Half of the moments are uniform in time, the others a file operation of the command (open, rename,
remove, make a folder), drawn evenly from those of the undisturbed run: so checkpoints, journals,
cache and report are hit in the middle. One in three kills is followed by one of the `resume`. Every
fifth run has two workers. One line of JSON is written for each, and one at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.faults.commands import Ended, Kill, execute, marked, new_mark, num_operations
from tests.faults.trees import tree

SCENARIO: dict[str, Any] = {
    "version": 1,
    "name": "killed",
    "seed": 3,
    "rounds": 8,
    "data": {
        "source": {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120},
        "task": "binary",
    },
    "population": {"num_sites": 3, "partition": {"kind": "dirichlet", "alpha": 1.0}},
    "model": {"kind": "mlp", "widths": [8]},
    "client": {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 0.1}},
    "server_optimizer": {"kind": "sgd", "learning_rate": 1.0, "momentum": 0.5},
    "evaluation": {"num_resamples": 20},
    "baselines": ["local"],
}
PRIVATE = {
    "privacy": {
        "mechanism": {"kind": "example_level", "noise_multiplier": 1.0},
        "delta": 1e-4,
    }
}
PATIENCE_S = 60.0
"""Seconds that processes get to end after the main one was killed."""


class Trial:
    """One kind of run, and what it is like when nothing disturbs it.

    Args:
        folder: empty, for everything.
        sections: that the scenario has beside those above.
        workers: processes that train.
    """

    def __init__(self, folder: Path, sections: Mapping[str, Any], workers: int) -> None:
        folder.mkdir()
        self._file, self._workers = folder / "scenario.yaml", str(workers)
        self._file.write_text(yaml.safe_dump({**SCENARIO, **sections}))
        whole = folder / "whole"
        whole.mkdir()
        done = self._run(whole)
        if done.code:
            raise RuntimeError(done.said)
        self._seconds, self._num = done.seconds, num_operations(whole)
        self._expected = tree(whole / "runs")

    def undergo(self, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
        """Run, kill, resume until it is done; return what was found."""
        folder.mkdir()
        mark = new_mark()
        kills, killed = [self._moment(rng)], []
        while rng.random() < 1 / 3:
            kills.append(self._moment(rng))
        for kill in kills:
            killed.append(self._go_on(folder, kill))
        last = self._go_on(folder)
        found = tree(folder / "runs")
        wrong = {name for name in {*found, *self._expected} if self._differs(name, found)}
        return {
            "workers": int(self._workers),
            "kills": [vars(kill) for kill in kills],
            "killed": [ended.code == -9 for ended in killed],
            "code": last.code,
            "said": last.said if last.code else "",
            "differ": sorted(wrong),
            "left": [*_left(folder), *_processes(mark), *_memory([*killed, last])],
        }

    def _moment(self, rng: np.random.Generator) -> Kill:
        if rng.random() < 0.5:
            return Kill(after_s=float(rng.uniform(0, self._seconds)))
        return Kill(at_operation=int(rng.integers(1, self._num + 1)))

    def _run(self, folder: Path, kill: Kill = Kill()) -> Ended:  # noqa: B008
        out = ["--out", str(folder / "runs"), "--run-name", "run", "--device", "cpu"]
        return execute(["run", str(self._file), *out, "--workers", self._workers], folder, kill)

    def _go_on(self, folder: Path, kill: Kill = Kill()) -> Ended:  # noqa: B008
        """Do what a user does: resume what has a folder, run what has none."""
        run = folder / "runs" / "run"
        if not run.exists():
            return self._run(folder, kill)
        return execute(["resume", str(run), "--workers", self._workers], folder, kill)

    def _differs(self, name: str, found: Mapping[str, str]) -> bool:
        return found.get(name) != self._expected.get(name)


def _left(folder: Path) -> list[str]:
    """Return hidden and temporary files that should be gone."""
    hidden = [path for path in folder.rglob(".*") if path.name != ".lock"]
    return [str(path) for path in [*hidden, *(folder / "tmp").iterdir()]]


def _processes(mark: str) -> list[str]:
    deadline = time.monotonic() + PATIENCE_S
    while (found := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"process {number}" for number in found]


def _memory(ended: list[Ended]) -> list[str]:
    shared = Path("/dev/shm")
    return [path.name for e in ended for path in shared.glob(f"fedsim-{e.process}-*")]


def main() -> int:
    """Do all trials and return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=50, help="runs that are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    rng, counts = np.random.default_rng(options.seed), Counter[str]()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        kinds = [Trial(folder / "plain", {}, 1), Trial(folder / "private", PRIVATE, 1)]
        if options.num >= 5:
            kinds.append(Trial(folder / "two", {}, 2))
        for number in range(options.num):
            kind = kinds[2] if number % 5 == 4 else kinds[number % 2]
            place = folder / f"trial-{number}"
            result = kind.undergo(place, rng)
            _say({"trial": number, **result})
            counts["runs"] += 1
            counts["kills"] += sum(result["killed"])
            counts["not resumed"] += result["code"] != 0
            counts["other bits"] += bool(result["differ"])
            counts["something left"] += bool(result["left"])
            shutil.rmtree(place)
    _say({**counts, "seconds": round(time.monotonic() - begin)})
    return int(any(counts[name] for name in ("not resumed", "other bits", "something left")))


def _say(row: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
