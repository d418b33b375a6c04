"""Records hold what tensors held, in the form that Flower itself reads and writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import Array

from fedsim.flower.wire import LastRead, from_arrays, to_array, to_arrays, to_tensor

TENSORS = {
    "matrix": torch.randn(3, 4),
    "double": torch.randn(2, dtype=torch.float64),
    "half": torch.randn(2, 3).half(),
    "scalar": torch.tensor(2.5),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 3),
    "transposed": torch.randn(3, 4).T,
    "mask": torch.tensor([True, False]),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_is_written_as_flower_writes_it(name: str) -> None:
    ours, theirs = to_array(TENSORS[name]), Array(TENSORS[name].contiguous().numpy())
    assert (ours.dtype, ours.shape, ours.stype) == (theirs.dtype, theirs.shape, theirs.stype)
    assert ours.data == theirs.data


@pytest.mark.parametrize("name", TENSORS)
def test_round_trip_keeps_every_bit(name: str) -> None:
    back = to_tensor(to_array(TENSORS[name]))
    assert back.dtype == TENSORS[name].dtype
    assert torch.equal(back, TENSORS[name])


def test_arrays_in_fortran_order_are_read_too() -> None:
    values = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    assert torch.equal(to_tensor(Array(values)), torch.from_numpy(values))


def test_reading_shares_no_memory_with_the_record() -> None:
    array = to_array(torch.zeros(3))
    to_tensor(array).add_(1)
    assert torch.equal(to_tensor(array), torch.zeros(3))


def test_last_read_follows_a_new_record() -> None:
    read = LastRead()
    first, second = to_arrays({"w": torch.zeros(2)}), to_arrays({"w": torch.ones(2)})
    assert read(first) is read(first)
    assert torch.equal(read(second)["w"], from_arrays(second)["w"])
