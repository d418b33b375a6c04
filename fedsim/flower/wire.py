"""What travels between server and sites, and under which names.

Down: one ArrayRecord `arrays` (the global model) and one ConfigRecord `config` (the round, and the
weight of a proximal term where Flower's FedProx asks for one); to a site that does other than the
scenario's client section says, a ConfigRecord `plan` with the fields of `clients.training.Plan`;
ArrayRecords that the strategy broadcasts, under names of its own, an array for every parameter; to
a site that keeps something from one of its rounds to the next, a ConfigRecord `memory`: the round
that is going on, and those whose memory may still be asked for, its present one last; where
training is private a ConfigRecord `private-release`, what the ledger has of the release that the
site takes part in.
Up: `train` sends the local model back as `arrays` with `metrics` {num-examples, num-steps,
train_loss, and start-loss or update-noise where the strategy asks for it}, and the ArrayRecords
that the strategy collects;
`evaluate` sends for each split the scores and true labels of the site's images, which a
simulation may look at and no private protocol would release.
On Flower's own runtimes every message also brings a ConfigRecord `task`: the scenario as JSON,
where to compute and, if sites keep anything, in which folder or under which name; for a client may
be a process there that was started for this message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import flwr.app
import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray
from torch import Tensor

from clients.training import Plan
from fedsim.data.source import HELD_OUT
from fedsim.privacy.mechanism import Mechanism, Release
from strategies.principal_gradient import UPDATE_NOISE
from strategies.q_fed_avg import START_LOSS

if TYPE_CHECKING:
    from fedsim.flower.local_training import Trained

ARRAYS, CONFIG, PLAN, METRICS = "arrays", "config", "plan", "metrics"
MEMORY, COUNTS_IN, KEPT = "memory", "counts-in", "kept"
PRIVATE_RELEASE = "private-release"
TASK, SCENARIO, DEVICE, PLACE = "task", "scenario", "device", "place"
NUM_SITES, OWN = "num-sites", "own"
PROXIMAL_MU = "proximal-mu"
ROUND, NUM_EXAMPLES, NUM_STEPS = "server-round", "num-examples", "num-steps"
TRAIN_LOSS, SITE = "train_loss", "site"
Buffer = bytes | memoryview


class Array(flwr.app.Array):
    """An array of Flower's that keeps its tensor, on its device, and makes bytes only when asked.

    Inside one process a model is handed on as it is; where bytes are needed, they are those of the
    npy file that `flwr.app.Array(ndarray)` makes. It has the name of Flower's own class because
    that name is part of Flower's format.

    Args:
        tensor: must not be changed from now on.
    """

    def __init__(self, tensor: Tensor) -> None:
        dtype = str(tensor.dtype).removeprefix("torch.")
        shape = tuple(tensor.shape)
        self.__dict__.update(dtype=dtype, shape=shape, stype="numpy.ndarray", tensor=tensor)

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The bytes of an npy file."""
        if "bytes" not in self.__dict__:
            self.__dict__["bytes"] = b"".join(buffers(self))
        return self.__dict__["bytes"]  # type: ignore[no-any-return]

    def values(self) -> NDArray[Any]:
        """Return the values on the CPU in C order, in place where possible; not to be changed."""
        values: NDArray[Any] = self.__dict__["tensor"].detach().cpu().contiguous().numpy()
        return values

    def numpy(self) -> NDArray[Any]:
        """Return a copy of the values."""
        return self.values().copy()


def to_arrays(state: Mapping[str, Tensor]) -> ArrayRecord:
    """Return a model as Flower sends it; its tensors must not be changed from now on."""
    record = ArrayRecord()  # filled one by one, as its constructor would make every array twice
    for name, tensor in state.items():
        record[name] = Array(tensor)
    return record


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return npy_header(dtype.str, shape)


@cache
def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return what an npy file of a C-ordered array begins with."""
    buffer = BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def from_arrays(arrays: ArrayRecord) -> dict[str, Tensor]:
    """Return the tensors of a model, which must not be changed."""
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


def to_tensor(array: flwr.app.Array) -> Tensor:
    """Return one tensor, where it is or else on the CPU; it must not be changed."""
    if isinstance(array, Array):
        return array.__dict__["tensor"]  # type: ignore[no-any-return]
    return torch.from_numpy(np.array(view(array), order="C"))


def buffers(array: flwr.app.Array) -> list[Buffer]:
    """Return an array's bytes in parts that follow each other, in place where possible."""
    if not isinstance(array, Array):
        return [array.data]
    values = array.values()
    return [_header(values.dtype, values.shape), values.reshape(-1).view(np.uint8).data]


def from_buffer(
    dtype: str, shape: tuple[int, ...], stype: str, memory: memoryview
) -> flwr.app.Array:
    """Return an array of such bytes, which are copied."""
    header = _header(np.dtype(dtype), shape)
    if memory[: len(header)] != header:
        return flwr.app.Array(dtype, shape, stype, bytes(memory))
    values = np.frombuffer(memory, dtype, offset=len(header)).reshape(shape)
    return Array(torch.from_numpy(values.copy()))


def view(array: flwr.app.Array) -> NDArray[Any]:
    """Return the values of a record's array, in place where possible; not to be changed."""
    if isinstance(array, Array):
        return array.values()
    dtype = np.dtype(array.dtype)
    header = _header(dtype, tuple(array.shape))
    if not array.data.startswith(header):
        return array.numpy()
    return np.frombuffer(array.data, dtype, offset=len(header)).reshape(array.shape)


def plan_record(plan: Plan) -> ConfigRecord:
    """Return a site's own plan as Flower sends it."""
    return ConfigRecord({name: value for name, value in asdict(plan).items() if value is not None})


def read_plan(message: Message) -> Plan | None:
    """Return the site's own plan, None where the scenario's holds."""
    records = message.content.config_records
    return Plan(**cast(dict[str, Any], dict(records[PLAN]))) if PLAN in records else None


def address_release(message: Message, release: Release) -> None:
    """Put into a message what its site releases, or takes part in."""
    record = ConfigRecord(asdict(release))
    message.content = RecordDict({**message.content, PRIVATE_RELEASE: record})


def read_release(message: Message, mechanism: Mechanism) -> Release | None:
    """Return what a site is to release, None if the message does not say."""
    records = message.content.config_records
    if PRIVATE_RELEASE not in records:
        return None
    return mechanism.read(dict(records[PRIVATE_RELEASE]))


def received(message: Message) -> dict[str, dict[str, Tensor]]:
    """Return the array records that came beside the model, by name; they must not be changed."""
    records = message.content.array_records
    return {name: from_arrays(record) for name, record in records.items() if name != ARRAYS}


def memory_record(counts_in: int, kept: Sequence[int]) -> ConfigRecord:
    """Return which memory a site is to use, as Flower sends it.

    Args:
        counts_in: the round that is going on.
        kept: rounds whose memory may still be asked for, ascending; the last is its present one.
    """
    return ConfigRecord({COUNTS_IN: counts_in, KEPT: list(kept)})


def read_memory(message: Message) -> tuple[int, list[int]]:
    """Return what `memory_record` was made of."""
    said = cast(dict[str, Any], dict(message.content.config_records[MEMORY]))
    return int(said[COUNTS_IN]), [int(round) for round in said[KEPT]]


def train_reply(message: Message, trained: Trained) -> Message:
    """Return a site's answer to `train`."""
    state = {name: tensor.detach() for name, tensor in trained.state.items()}
    metrics = MetricRecord(
        {
            NUM_EXAMPLES: trained.num_examples,
            NUM_STEPS: trained.num_steps,
            TRAIN_LOSS: trained.loss,
        }
    )
    if trained.start_loss is not None:
        metrics[START_LOSS] = trained.start_loss
    if trained.update_noise is not None:
        metrics[UPDATE_NOISE] = trained.update_noise
    beside = {name: to_arrays(tensors) for name, tensors in trained.sent.items()}
    return Message(
        RecordDict({ARRAYS: to_arrays(state), METRICS: metrics, **beside}), reply_to=message
    )


def is_finite(arrays: ArrayRecord) -> bool:
    """Return whether every value of a model is finite; sums tell, without a copy."""
    return all(math.isfinite(_sum(to_tensor(array))) for array in arrays.values())


def _sum(tensor: Tensor) -> float:
    """Return the sum of floats, which is not finite if one of them is not."""
    if not tensor.is_floating_point():
        return 0.0
    return tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32)).item()


def evaluate_reply(
    message: Message, predictions: Mapping[str, tuple[Tensor, Tensor]], num: int
) -> Message:
    """Return a site's answer to `evaluate`: (scores, labels) for each split."""
    records: dict[str, ArrayRecord | MetricRecord] = {
        split: to_arrays({"scores": scores, "labels": labels})
        for split, (scores, labels) in predictions.items()
    }
    return Message(
        RecordDict({**records, METRICS: MetricRecord({NUM_EXAMPLES: num})}), reply_to=message
    )


def read_predictions(reply: Message) -> dict[str, tuple[NDArray[np.float32], NDArray[Any]]]:
    """Return from an answer to `evaluate` the scores and labels of each split.

    Raises:
        KeyError, ValueError: if it is no such answer.
    """
    found = {split: reply.content.array_records[split] for split in HELD_OUT}
    return {split: (a["scores"].numpy(), a["labels"].numpy()) for split, a in found.items()}


def num_bytes(message: Message) -> int:
    """Return the bytes of all arrays that a message carries."""
    return sum(map(arrays_bytes, message.content.array_records.values()))


def arrays_bytes(arrays: ArrayRecord) -> int:
    """Return the bytes of a model on the wire."""
    return sum(map(_num_bytes, arrays.values()))


def _num_bytes(array: flwr.app.Array) -> int:
    if not isinstance(array, Array):
        return len(array.data)
    tensor = to_tensor(array)
    return len(npy_header(np.dtype(array.dtype).str, array.shape)) + tensor.nbytes
