"""A checkpoint gives back what was saved, bit for bit, or says that it cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.records.checkpoint import MARK, load, path_of, save

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)
ARRAY_DTYPES = ("f8", "f4", "f2", "c8", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
GRID = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
INDEX = np.arange(24, dtype=np.int32).reshape(2, 3, 4)


@pytest.fixture
def there_and_back(tmp_path: Path) -> Callable[[Any], Any]:
    def through(value: Any) -> Any:
        save(tmp_path / "state", {"value": value})
        state = load(tmp_path / "state")
        assert list(state) == ["value"]
        return state["value"]

    return through


def same(one: Any, other: Any) -> bool:
    """Return whether two states are equal in type, dtype, shape and every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return repr(one) == repr(other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_dtype(dtype: torch.dtype, there_and_back: Callable[[Any], Any]) -> None:
    tensors = [torch.tensor([[1, 0, 3]], dtype=dtype), torch.tensor(1, dtype=dtype)]
    assert same(there_and_back(tensors), tensors)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(0),
        torch.zeros(2, 0, 3),
        GRID.permute(2, 0, 1),
        GRID[:, ::2],
        GRID[0, 0].expand(3, 4),
        torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0]).view(torch.int32),
    ],
    ids=["empty", "empty-3d", "permuted", "stepped", "expanded", "channels-last", "not-finite"],
)
def test_tensors_of_every_layout(
    tensor: torch.Tensor, there_and_back: Callable[[Any], Any]
) -> None:
    back = there_and_back(tensor)
    assert same(back, tensor)
    assert back.is_contiguous()
    assert not back.requires_grad


def test_a_parameter_comes_back_as_a_tensor(there_and_back: Callable[[Any], Any]) -> None:
    back = there_and_back(torch.nn.Parameter(GRID.clone()))
    assert same(back, GRID)
    assert not back.requires_grad


@pytest.mark.parametrize("dtype", ARRAY_DTYPES)
def test_arrays_of_every_dtype(dtype: str, there_and_back: Callable[[Any], Any]) -> None:
    arrays = [np.array([[1, 0, 3]], dtype), np.array(1, dtype), np.zeros((0, 2), dtype)]
    arrays.append(np.zeros(0, dtype))
    assert same(there_and_back(arrays), arrays)


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(INDEX),
        INDEX[::-1, ::2],
        INDEX.astype(">i4"),
        np.broadcast_to(INDEX[0, 0], (3, 4)),
    ],
    ids=["fortran", "reversed", "big-endian", "broadcast"],
)
def test_arrays_of_every_layout(array: Any, there_and_back: Callable[[Any], Any]) -> None:
    back = there_and_back(array)
    assert back.dtype == np.int32
    assert np.array_equal(back, array)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text().filter(lambda key: key != MARK), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(plain)
def test_plain_values_exactly(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "plain.safetensors"
    save(file, {"value": value})
    assert same(load(file), {"value": value})


def test_tuples_come_back_as_lists(there_and_back: Callable[[Any], Any]) -> None:
    assert same(there_and_back((1, (GRID,))), [1, [GRID]])


def test_an_empty_state(tmp_path: Path) -> None:
    save(tmp_path / "state", {})
    assert load(tmp_path / "state") == {}


@settings(deadline=None)
@given(
    st.recursive(
        st.integers(0, 99).map(lambda number: torch.tensor([number])),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("ab/~01.", max_size=3), inner, max_size=4)
        ),
    )
)
def test_no_name_hides_another(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "names.safetensors"
    save(file, {"value": value})
    assert same(load(file), {"value": value})


def test_names_with_a_slash_are_told_from_nesting(tmp_path: Path) -> None:
    state = {
        "a": {"b": torch.tensor(1), "": torch.tensor(2)},
        "a/b": torch.tensor(3),
        "a~1b": torch.tensor(4),
        "a/": torch.tensor(5),
    }
    save(tmp_path / "state", state)
    assert same(load(tmp_path / "state"), state)


def test_shared_memory_is_written_twice_and_parted(there_and_back: Callable[[Any], Any]) -> None:
    whole = GRID.clone()
    back = there_and_back({"one": whole, "two": whole, "part": whole[0], "turned": whole.mT})
    assert same(back, {"one": whole, "two": whole, "part": whole[0], "turned": whole.mT})
    back["one"].zero_()
    assert torch.equal(back["two"], GRID)


def test_what_was_loaded_may_be_changed_and_the_file_replaced(tmp_path: Path) -> None:
    file = tmp_path / "state"
    save(file, {"tensor": GRID, "array": INDEX})
    before = file.read_bytes()
    state = load(file)
    state["tensor"].zero_()
    state["array"][:] = 0
    assert file.read_bytes() == before
    assert same(load(file), {"tensor": GRID, "array": INDEX})
    kept = load(file)
    save(file, {"tensor": torch.zeros(2)})
    file.write_bytes(b"\0" * len(before))
    assert same(kept, {"tensor": GRID, "array": INDEX})


def test_saving_changes_nothing_and_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    def state() -> dict[str, Any]:
        return {"b": [GRID.clone().mT, INDEX.copy(), 0.1], "a": {"x": torch.ones(3)}, "n": None}

    mine = state()
    save(tmp_path / "one", mine)
    assert same(mine, state())
    save(tmp_path / "two", state())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    save(tmp_path / "two", {**state(), "n": 0})
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"inner": [{1, 2}]}, r"state/value/inner/0 is a set"),
        ({"inner": object()}, r"state/value/inner is a object"),
        (b"bytes", r"state/value is a bytes"),
        (np.int64(3), r"state/value is a int64"),
        (1j, r"state/value is a complex"),
        (np.array(["text"]), r"state/value is an array of <U4"),
        (np.array([None]), r"state/value is an array of object"),
        (np.array([1j]), r"state/value is an array of complex128"),
        (torch.tensor([1j], dtype=torch.complex128), r"state/value is an array of .*complex128"),
        ({"inner": {1: "one"}}, r"state/value/inner has the key 1"),
        ({"inner": {None: "one"}}, r"state/value/inner has the key None"),
        ({MARK: "/value"}, rf"state/value has the key '{MARK}'"),
    ],
)
def test_what_it_cannot_hold_is_refused_by_name(tmp_path: Path, value: Any, named: str) -> None:
    save(tmp_path / "state", {"value": 1})
    with pytest.raises(TypeError, match=named):
        save(tmp_path / "state", {"value": value})
    assert load(tmp_path / "state") == {"value": 1}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_a_sparse_tensor_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state/value is torch\.sparse_coo"):
        save(tmp_path / "state", {"value": torch.eye(2).to_sparse()})


def test_damage_is_an_input_error_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "state"
    save(file, {"value": GRID, "other": [1, {"deep": INDEX}]})
    whole = file.read_bytes()
    damaged = [b"", b"\0", b"not a checkpoint", whole[:-1], whole + b"\0", whole[8:]]
    damaged += [whole[:cut] for cut in range(0, len(whole), 7)]
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"state: is no checkpoint that can be read"):
            load(file)
    header_end = 8 + int.from_bytes(whole[:8], "little")
    for position in range(header_end):
        file.write_bytes(whole[:position] + b"\x07" + whole[position + 1 :])
        with pytest.raises(InputError, match=r"state: is no checkpoint that can be read"):
            load(file)


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": GRID}, tmp_path / "foreign")
    save_file({"weight": GRID}, tmp_path / "lacking", {"state": f'{{"x": {{"{MARK}": "/x"}}}}'})
    for name in ("foreign", "lacking", "absent", "."):
        with pytest.raises(InputError, match="is no checkpoint"):
            load(tmp_path / name)


def test_checkpoints_are_sorted_by_round(tmp_path: Path) -> None:
    paths = [path_of(tmp_path, round) for round in (0, 9, 10, 99999)]
    assert paths == sorted(paths)
    assert paths[0] == tmp_path / "checkpoints" / "round-00000.safetensors"


FULL_DISK = """
import pathlib, resource, sys, torch
from fedsim.errors import RunError
from fedsim.records.checkpoint import save
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save(pathlib.Path(sys.argv[1]), {"value": torch.ones(100_000)})
except RunError as error:
    print(error, end="")
"""


def test_a_full_disk_leaves_the_old_checkpoint_and_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "state"
    save(file, {"value": GRID})
    command = [sys.executable, "-c", FULL_DISK, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{file}: cannot be written: File too large"
    assert same(load(file), {"value": GRID})
    assert list(tmp_path.iterdir()) == [file]
