"""A study of many tiny cells: its time, memory and page.

python -m tests.faults.cells --settings 10 --seeds 10
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from fedsim.report import study as page_of
from fedsim.study.load import load_study
from fedsim.study.progress import StudyProgress
from fedsim.study.runner import run
from tests.faults.opening import opened
from tests.faults.soak import SCENARIO, resident_mb

METHODS = ("weighted_mean", "principal_gradient", "fed_exp", "mgda", "coordinate_median")
ALPHAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0, 10.0, 100.0)
STUDY: dict[str, Any] = {
    "version": 1,
    "name": "many",
    "question": "Which rule is best for three tiny sites?",
    "base": "base.yaml",
    "set": {
        "population.num_sites": 3,
        "population.partition": {"kind": "dirichlet", "alpha": 1.0, "min_examples": 6},
        "evaluation": {"metrics": ["auroc", "loss"], "num_resamples": 100},
    },
    "primary": {
        "metric": "auroc",
        "reference": METHODS[0],
        "smallest_difference_of_interest": 0.05,
    },
    "methods": {kind: {"set": {"strategy": {"kind": kind}}} for kind in METHODS},
}


def main() -> int:
    """Run, write the report, say what both took, and return 1 if a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=int, default=len(ALPHAS), help="at most so many")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "base.yaml").write_text(yaml.safe_dump(SCENARIO | {"rounds": 2}))
        vary = {"population.partition.alpha": list(ALPHAS[: options.settings])}
        study = {**STUDY, "vary": vary, "seeds": options.seeds}
        (folder / "study.yaml").write_text(yaml.safe_dump(study))
        begin, resident = time.monotonic(), dict[int, float]()

        def watch(progress: StudyProgress) -> None:
            if progress.settled and progress.num_done % 25 == 0:
                resident[progress.num_done] = round(resident_mb(), 1)

        record = run(
            load_study(folder / "study.yaml"),
            out=folder / "runs",
            device="cpu",
            workers=options.workers,
            watch=watch,
        )
        ran = time.monotonic()
        page = page_of.write(record)
        cells = record.cells
        row = {
            "num_cells": len(cells),
            "failed": sum(cell.status == "failed" for cell in cells),
            "run_s": round(ran - begin),
            "report_s": round(time.monotonic() - ran, 1),
            "page_kb": round(page.stat().st_size / 1000),
            "resident_mb": resident,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
            **opened(page),
        }
    sys.stdout.write(json.dumps(row) + "\n")
    return int(row["failed"] > 0 or bool(row.get("console")))


if __name__ == "__main__":
    sys.exit(main())
