"""One run for `memory.py`, in a process of its own.

    python benchmarks/memory_run.py rounds NUM_ROUNDS WORKERS
    python benchmarks/memory_run.py cohort NUM_SITES

The first prints the bytes that the run holds after each round, the second nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

from fedsim.data.synthetic import Synthetic
from fedsim.models import Mlp
from fedsim.scenario import Client, Data, Evaluation, HeldOut, Scenario, Sites
from fedsim.scenario.cohort import FixedSize
from fedsim.simulate import run
from process_memory import held

IMAGE_SIZE = 28
WIDE = (4096, 5320)
NUM_PARAMETERS = 25_022_042
"""Of an MLP of these widths."""
NUM_WIDE_SITES = 200


def study(num_sites: int, model: Mlp, client: Client, rounds: int, **sections: object) -> Scenario:
    """Return a scenario with twelve images per site, evaluated at the beginning and the end."""
    source = Synthetic(anatomy="chest", image_size=IMAGE_SIZE, num_examples=12 * num_sites)
    return Scenario.model_validate(
        {
            "version": 1,
            "name": "memory",
            "rounds": rounds,
            "data": Data(source=source, task="binary"),
            "population": Sites(num_sites=num_sites, held_out=HeldOut(validation=0.1, test=0.1)),
            "model": model,
            "client": client,
            "evaluation": Evaluation(every=rounds, loss_decomposition=False, num_resamples=0),
            **sections,
        }
    )


def rounds(num: int, workers: int) -> list[int]:
    """Return the bytes held after each round of a small run, which evaluates every round."""
    sizes: list[int] = []
    scenario = study(
        20,
        Mlp(widths=(64,)),
        Client(epochs=1, batch_size=4),
        num,
        evaluation=Evaluation(loss_decomposition=False, num_resamples=0),
    )
    with tempfile.TemporaryDirectory() as folder:
        run(
            scenario,
            out=folder,
            device="cpu",
            workers=workers,
            watch=lambda progress: None if progress.stage else sizes.append(held(os.getpid())),
        )
    return sizes


def cohort(num_sites: int) -> None:
    """Run two rounds of a wide model."""
    scenario = study(
        NUM_WIDE_SITES,
        Mlp(widths=WIDE),
        Client(steps=1, batch_size=4),
        2,
        cohort=FixedSize(num_sites=num_sites),
    )
    with tempfile.TemporaryDirectory() as folder:
        run(scenario, out=folder, device="cpu")


def main() -> None:
    """Do what the command says."""
    match sys.argv[1:]:
        case ["rounds", num, workers]:
            print(json.dumps(rounds(int(num), int(workers))))
        case ["cohort", num_sites]:
            cohort(int(num_sites))


if __name__ == "__main__":
    main()
