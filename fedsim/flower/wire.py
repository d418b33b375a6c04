"""What travels between server and sites, and under which names.

Down: one ArrayRecord `arrays` (the global model) and one ConfigRecord `config` (the round).
Up: `train` sends the local model back as `arrays` with `metrics` {num-examples, train-loss};
`evaluate` sends for each split the log-probabilities and labels of the site's images, which a
simulation may look at and no private protocol would release.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray
from torch import Tensor

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
ROUND, NUM_EXAMPLES, TRAIN_LOSS, SITE = "server-round", "num-examples", "train-loss", "site"


def to_arrays(state: Mapping[str, Tensor]) -> ArrayRecord:
    """Return the tensors as Flower sends them."""
    return ArrayRecord({name: Array(t.detach().cpu().numpy()) for name, t in state.items()})


def from_arrays(arrays: ArrayRecord) -> dict[str, Tensor]:
    """Return the tensors on the CPU."""
    return {name: to_tensor(array) for name, array in arrays.items()}


def to_tensor(array: Array) -> Tensor:
    """Return one tensor on the CPU, sharing no memory with the record."""
    return torch.from_numpy(array.numpy())


def train_reply(message: Message, state: Mapping[str, Tensor], loss: float, num: int) -> Message:
    """Return a site's answer to `train`."""
    metrics = MetricRecord({NUM_EXAMPLES: num, TRAIN_LOSS: loss})
    return Message(RecordDict({ARRAYS: to_arrays(state), METRICS: metrics}), reply_to=message)


def evaluate_reply(
    message: Message, predictions: Mapping[str, tuple[Tensor, Tensor]], num: int
) -> Message:
    """Return a site's answer to `evaluate`: (log-probabilities, labels) for each split."""
    records: dict[str, ArrayRecord | MetricRecord] = {
        split: to_arrays({"log_probabilities": log_probabilities, "labels": labels})
        for split, (log_probabilities, labels) in predictions.items()
    }
    return Message(
        RecordDict({**records, METRICS: MetricRecord({NUM_EXAMPLES: num})}), reply_to=message
    )


def read_predictions(reply: Message) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Return from an answer to `evaluate` the log-probabilities and labels of each split."""
    return {
        split: (arrays["log_probabilities"].numpy(), arrays["labels"].numpy())
        for split, arrays in reply.content.array_records.items()
    }


def num_bytes(message: Message) -> int:
    """Return the bytes of all arrays that a message carries."""
    return sum(
        len(array.data)
        for record in message.content.array_records.values()
        for array in record.values()
    )
