"""What travels between server and sites, and under which names.

Down: one ArrayRecord `arrays` (the global model) and one ConfigRecord `config` (the round, and the
weight of a proximal term where Flower's FedProx asks for one).
Up: `train` sends the local model back as `arrays` with `metrics` {num-examples, train_loss};
`evaluate` sends for each split the log-probabilities and labels of the site's images, which a
simulation may look at and no private protocol would release.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray
from torch import Tensor

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
PROXIMAL_MU = "proximal-mu"
ROUND, NUM_EXAMPLES, TRAIN_LOSS, SITE = "server-round", "num-examples", "train_loss", "site"


def to_arrays(state: Mapping[str, Tensor]) -> ArrayRecord:
    """Return the tensors as Flower sends them."""
    record = ArrayRecord()  # filled one by one, as its constructor would make every array twice
    for name, tensor in state.items():
        record[name] = to_array(tensor)
    return record


def to_array(tensor: Tensor) -> Array:
    """Return one tensor as Flower sends it: the bytes of an npy file, as `Array(ndarray)` makes.

    Written out here because numpy's own writer grows a buffer and copies it, which costs more than
    a small model's forward pass.
    """
    values = tensor.detach().cpu().contiguous().numpy()
    data = b"".join((npy_header(values.dtype.str, values.shape), values.data))
    return Array(str(values.dtype), values.shape, "numpy.ndarray", data)


@cache
def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return what an npy file of a C-ordered array begins with."""
    buffer = BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def from_arrays(arrays: ArrayRecord) -> dict[str, Tensor]:
    """Return the tensors on the CPU."""
    return {name: to_tensor(array) for name, array in arrays.items()}


class LastRead:
    """Reads models and keeps the last one, for all sites receive the same record in turn."""

    def __init__(self) -> None:
        self._arrays: ArrayRecord | None = None
        self._model: dict[str, Tensor] = {}

    def __call__(self, arrays: ArrayRecord) -> Mapping[str, Tensor]:
        """Return the tensors, which must not be changed."""
        if arrays is not self._arrays:
            self._arrays, self._model = arrays, from_arrays(arrays)
        return self._model


def to_tensor(array: Array) -> Tensor:
    """Return one tensor on the CPU, sharing no memory with the record."""
    return torch.from_numpy(np.array(view(array), order="C"))


def view(array: Array) -> NDArray[Any]:
    """Return the values of a record's array, read in place where its layout allows; read-only."""
    dtype = np.dtype(array.dtype)
    header = npy_header(dtype.str, tuple(array.shape))
    if not array.data.startswith(header):
        return array.numpy()
    return np.frombuffer(array.data, dtype, offset=len(header)).reshape(array.shape)


def train_reply(message: Message, state: Mapping[str, Tensor], loss: float, num: int) -> Message:
    """Return a site's answer to `train`."""
    metrics = MetricRecord({NUM_EXAMPLES: num, TRAIN_LOSS: loss})
    return Message(RecordDict({ARRAYS: to_arrays(state), METRICS: metrics}), reply_to=message)


def read_model(reply: Message) -> dict[str, Tensor]:
    """Return the local model from an answer to `train`; some of Flower's strategies empty it."""
    return from_arrays(next(iter(reply.content.array_records.values())))


def is_finite(arrays: ArrayRecord) -> bool:
    """Return whether every value of a model is finite."""
    return all(bool(np.isfinite(view(array)).all()) for array in arrays.values())


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
