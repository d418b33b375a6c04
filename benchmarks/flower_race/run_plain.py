"""Run the apps of `plain.py` on Flower's Simulation Runtime, one client per processor at a time.

python benchmarks/flower_race/run_plain.py TASK.pt NUM_ROUNDS FRACTION_EVALUATE ROUNDS.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path

from flwr.simulation import run_simulation
from plain import client_app, load, make_server_app


def main() -> None:
    """Run."""
    file, num_rounds, fraction_evaluate, rounds = sys.argv[1:]
    _, sites, _ = load(file)
    run_simulation(
        make_server_app(file, int(num_rounds), float(fraction_evaluate), Path(rounds)),
        client_app,
        num_supernodes=len(sites),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main()
