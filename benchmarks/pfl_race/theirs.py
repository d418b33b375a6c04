"""pfl's side of `apple_pfl.py`, for the Python of its own environment.

    python benchmarks/pfl_race/theirs.py IMAGES.npz NETWORK NUM_ROUNDS

The npz file is that of `ours.py`. With PFL_WORKER_ADDRESSES and PFL_WORKER_RANK this is one of
several processes, of which the first takes turns with the other side and the others wait for it.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops.pytorch_ops import distributed
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pfl_race.task import (
    BATCH_SIZE,
    COHORT_SIZE,
    IMAGE_SIZE,
    LEARNING_RATE,
    NETWORKS,
    NUM_CHANNELS,
    NUM_CLASSES,
    NUM_EXAMPLES,
    NUM_USERS,
)
from turns import Turn


class Network(nn.Module):
    """A network with the two functions that pfl asks for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        self.train()
        return cross_entropy(self.network(images), labels)

    @torch.no_grad()
    def metrics(self, images: Tensor, labels: Tensor) -> dict[str, Weighted]:
        """Return what pfl evaluates in the first round, which is not counted."""
        loss = cross_entropy(self.network(images), labels, reduction="sum")
        return {"loss": Weighted(loss.item(), len(labels))}


class TakeTurns(TrainingProcessCallback):
    """Waits between rounds until the race lets this side go on."""

    def __init__(self) -> None:
        self.turn = Turn()

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
        """Wait for the first round."""
        self.wait()
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Wait for the next round."""
        self.wait()
        return False, Metrics()

    def wait(self) -> None:
        """Let the first process wait for the race, and the others for the first."""
        if distributed.global_rank == 0:
            self.turn()
        if distributed.world_size > 1:
            torch.distributed.barrier()


def read(file: str) -> list[Dataset]:
    """Return the data of every user, as tensors."""
    arrays = np.load(file)
    train = arrays["splits"] == "train"
    pixels = arrays["pixels"][train].astype(np.float32) / 255
    images = torch.from_numpy(pixels).split(NUM_EXAMPLES)
    labels = torch.from_numpy(arrays["labels"][train]).split(NUM_EXAMPLES)
    return [
        Dataset(user, user_id=str(number))
        for number, user in enumerate(zip(images, labels, strict=True))
    ]


def main() -> None:
    """Train round after round."""
    file, network, num_rounds = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (pfl draws from numpy's global state, alike in all processes)
    users = read(file)
    model = Network(NETWORKS[network](NUM_CHANNELS, NUM_CLASSES, IMAGE_SIZE))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=int(num_rounds),
            evaluation_frequency=int(num_rounds) + 1,
            train_cohort_size=COHORT_SIZE,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(
            training_data=FederatedDataset(
                users.__getitem__, get_user_sampler("random", range(NUM_USERS))
            ),
            val_data=None,
            postprocessors=[WeightByDatapoints()],
        ),
        model=PyTorchModel(
            model=model,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        ),
        model_train_params=NNTrainHyperParams(
            local_learning_rate=LEARNING_RATE, local_num_epochs=1, local_batch_size=BATCH_SIZE
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[TakeTurns()],
        send_metrics_to_platform=False,
    )


if __name__ == "__main__":
    main()
