"""A run of many sites, of which a hundred take part in each round: its time, memory and page.

python -m tests.faults.sites --num 10000
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from fedsim import report
from fedsim.scenario import from_data
from fedsim.simulate import run
from tests.faults.opening import opened
from tests.faults.soak import SCENARIO


def main() -> None:
    """Run, write the report, and say what both took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=10_000, help="sites")
    num = parser.parse_args().num
    partition = {"kind": "resampled", "examples_per_site": [5, 9], "alpha": 1.0}
    sections = {
        "rounds": 5,
        "population": {"num_sites": num, "partition": partition},
        "cohort": {"kind": "fixed_size", "num_sites": min(100, num)},
        "evaluation": {"num_resamples": 100, "loss_decomposition": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        record = run(from_data({**SCENARIO, **sections}, "sites"), out=folder, device="cpu")
        ran = time.monotonic()
        page: Path = report.write(record)[-1]
        row = {
            "num_sites": num,
            "run_s": round(ran - begin, 1),
            "report_s": round(time.monotonic() - ran, 1),
            "page_kb": round(page.stat().st_size / 1000),
            "folder_mb": sum(f.stat().st_size for f in record.folder.rglob("*") if f.is_file())
            / 1e6,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
            **opened(page),
        }
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
