"""fedsim's side of `apple_pfl.py`.

    python benchmarks/pfl_race/ours.py IMAGES.npz NETWORK NUM_ROUNDS WORKERS

The npz file has `pixels`, (n, channel, height, width), uint8, and `labels` and `splits`, (n,).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from clients.optimizer import Sgd
from fedsim.data.npz import Npz
from fedsim.models import Mlp
from fedsim.scenario import Client, Data, Evaluation, Scenario, Sites
from fedsim.scenario.cohort import FixedSize
from fedsim.simulate import run
from pfl_race.model import PflCnn
from pfl_race.task import BATCH_SIZE, COHORT_SIZE, LEARNING_RATE, MLP_WIDTHS, NUM_USERS
from turns import Turn

MODELS = {"mlp": Mlp(widths=MLP_WIDTHS), "cnn": PflCnn()}


def study(file: Path, network: str, num_rounds: int) -> Scenario:
    """Return the scenario."""
    return Scenario(
        version=1,
        name=f"pfl-{network}",
        rounds=num_rounds,
        data=Data(
            source=Npz(path=file, images="pixels", labels="labels", splits="splits"),
            task="multiclass",
        ),
        population=Sites(num_sites=NUM_USERS, held_out="official"),
        model=MODELS[network],
        client=Client(epochs=1, batch_size=BATCH_SIZE, optimizer=Sgd(learning_rate=LEARNING_RATE)),
        cohort=FixedSize(num_sites=COHORT_SIZE),
        evaluation=Evaluation(every=num_rounds, loss_decomposition=False, num_resamples=0),
    )


def main() -> None:
    """Train round after round."""
    file, network, num_rounds, workers = sys.argv[1:]
    turn = Turn()
    with tempfile.TemporaryDirectory() as folder:
        run(
            study(Path(file), network, int(num_rounds)),
            out=folder,
            device="cpu",
            workers=int(workers),
            watch=lambda progress: turn(),
        )


if __name__ == "__main__":
    main()
