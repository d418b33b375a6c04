"""Records hold what tensors held, in the form that Flower itself reads and writes."""

from __future__ import annotations

import flwr.app
import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict

from fedsim.engines.inline import flower_identity
from fedsim.flower.wire import (
    Array,
    LastRead,
    from_arrays,
    is_finite,
    num_bytes,
    to_arrays,
    to_tensor,
    view,
)

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
    ours, theirs = Array(TENSORS[name]), flwr.app.Array(TENSORS[name].contiguous().numpy())
    assert (ours.dtype, ours.shape, ours.stype) == (theirs.dtype, theirs.shape, theirs.stype)
    assert ours.data == theirs.data


@pytest.mark.parametrize("name", TENSORS)
def test_round_trip_keeps_every_bit(name: str) -> None:
    array = Array(TENSORS[name])
    plain = flwr.app.Array(array.dtype, array.shape, array.stype, array.data)
    back = to_tensor(plain)
    assert back.dtype == TENSORS[name].dtype
    assert torch.equal(back, TENSORS[name])


def test_arrays_in_fortran_order_are_read_too() -> None:
    values = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    assert torch.equal(to_tensor(flwr.app.Array(values)), torch.from_numpy(values))


@pytest.mark.parametrize("name", TENSORS)
def test_inside_a_process_a_tensor_is_handed_on_as_it_is(name: str) -> None:
    array = Array(TENSORS[name])
    assert to_tensor(array) is TENSORS[name]
    np.testing.assert_array_equal(view(array), TENSORS[name].numpy())
    np.testing.assert_array_equal(array.numpy(), TENSORS[name].numpy())
    assert not np.shares_memory(array.numpy(), view(array))
    assert "bytes" not in vars(array)


@pytest.mark.parametrize("name", TENSORS)
def test_bytes_are_counted_without_making_them(name: str) -> None:
    arrays = to_arrays({name: TENSORS[name]})
    with flower_identity():
        found = num_bytes(Message(RecordDict({"arrays": arrays}), 2, "train"))
    array = arrays[name]
    assert "bytes" not in vars(array)
    assert found == len(array.data)


def test_flower_stores_and_restores_it_as_an_array_of_its_own() -> None:
    array = Array(torch.arange(6.0).reshape(2, 3))
    theirs = flwr.app.Array.inflate(array.deflate(), array.children)
    assert type(theirs) is flwr.app.Array
    np.testing.assert_array_equal(theirs.numpy(), array.numpy())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_single_value_that_is_not_finite_is_noticed(bad: float, dtype: torch.dtype) -> None:
    values = torch.full((50,), 60000.0, dtype=dtype)
    assert is_finite(to_arrays({"w": values, "n": torch.tensor(3)}))
    assert not is_finite(to_arrays({"w": values.index_fill(0, torch.tensor(7), bad)}))


def test_last_read_follows_a_new_record() -> None:
    read = LastRead()
    first, second = to_arrays({"w": torch.zeros(2)}), to_arrays({"w": torch.ones(2)})
    assert read(first) is read(first)
    assert torch.equal(read(second)["w"], from_arrays(second)["w"])
