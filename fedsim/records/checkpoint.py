"""Checkpoints: nested state as one safetensors file.

The tensors and arrays of the state go into the file under their path (keys joined by "/", with "~"
and "/" inside a key written "~0" and "~1", as in a JSON Pointer); the rest of it, with a mark where
each of them was, goes into the file's metadata as JSON, with a SHA-256 over all of it. The metadata
has one entry alone, because safetensors writes several in no fixed order.

A run's states also say whose they are, so that a file that was copied here or renamed is noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim.errors import InputError
from fedsim.records.files import write_bytes

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

MARK = "__tensor__"
OWNER = "of"
CHECKPOINTS = "checkpoints"


def path_of(folder: Path, number: int, kind: str = CHECKPOINTS, what: str = "round") -> Path:
    """Return where the state of a round (or another numbered thing) stands in a run folder."""
    return folder / kind / f"{what}-{number:05d}.safetensors"


def rounds(folder: Path, kind: str = CHECKPOINTS, what: str = "round") -> list[int]:
    """Return the rounds (or other numbered things) that a run folder holds states of, ascending."""
    names = (file.stem.removeprefix(f"{what}-") for file in folder.glob(f"{kind}/*.safetensors"))
    return sorted(int(name) for name in names if re.fullmatch(r"\d{5,}", name))


def save_of(run: str, path: Path, state: dict[str, Any]) -> None:
    """Write a state of a run, see `save`.

    Args:
        run: digest of its scenario.
        path: of the file.
        state: must not have the key `of`.
    """
    save(path, {**state, OWNER: _owner(run, path)})


def load_of(run: str, path: Path) -> dict[str, Any]:
    """Return the state of a run that was saved, see `load`; older files do not say whose they are.

    Raises:
        InputError: if the file is no checkpoint, or one of another run or for another place.
    """
    state, expected = load(path), _owner(run, path)
    if (found := state.pop(OWNER, expected)) != expected:
        raise InputError(
            f"{path}: was copied here or renamed: it is {found['file']} of run "
            f"{found['run'][:10]}, this is run {run[:10]}"
        )
    return state


def _owner(run: str, path: Path) -> dict[str, str]:
    return {"run": run, "file": f"{path.parent.name}/{path.name}"}


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state: dicts (string keys) and lists of tensors, numpy arrays and plain values.

    Tuples come back as lists, and arrays of any byte order and layout as native ones in C order.

    Raises:
        TypeError: if the state holds anything else.
        RunError: if the file cannot be written; a checkpoint that was there is left as it was.
    """
    from safetensors.torch import save as to_bytes

    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(_take_out(state, "", tensors))
    head = {"sha256": _digest(skeleton, tensors), "state": skeleton}
    content = to_bytes(tensors, {"fedsim": json.dumps(head)})
    write_bytes(path, content)


def load(path: Path) -> dict[str, Any]:
    """Return the state that was saved.

    Raises:
        InputError: if the file is no checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    damage = (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            head = json.loads(file.metadata()["fedsim"])
            if _digest(head["state"], tensors) != head["sha256"]:
                raise ValueError("its content does not have the checksum it was saved with")
            state: dict[str, Any] = _put_back(json.loads(head["state"]), tensors)
    except (SafetensorError, *damage) as error:
        raise InputError(f"{path}: is no checkpoint that can be read: {error}") from error
    return state


def _digest(skeleton: str, tensors: Mapping[str, torch.Tensor]) -> str:
    import torch

    digest = hashlib.sha256(skeleton.encode("utf-8"))
    for name in sorted(tensors):
        if tensors[name].numel():  # torch refuses to look at an empty tensor as bytes
            digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _take_out(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor | np.ndarray):
        tensors[path] = _storable(value, path)
        return {MARK: path, "numpy": isinstance(value, np.ndarray)}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key == MARK:
                raise TypeError(f"state{path} has the key {key!r}, which a checkpoint cannot hold")
        return {
            key: _take_out(item, f"{path}/{key.replace('~', '~0').replace('/', '~1')}", tensors)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_take_out(item, f"{path}/{n}", tensors) for n, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state{path} is a {type(value).__name__}, which a checkpoint cannot hold")


def _storable(value: torch.Tensor | NDArray[Any], path: str) -> torch.Tensor:
    """Return a copy on the CPU that shares no memory with others, as safetensors wants it."""
    import numpy as np
    import torch

    refusal = TypeError(f"state{path} is an array of {value.dtype}, which a checkpoint cannot hold")
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"state{path} is {value.layout}, which a checkpoint cannot hold")
        tensor = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    else:
        try:
            tensor = torch.from_numpy(np.array(value, value.dtype.newbyteorder("="), order="C"))
        except TypeError as error:
            raise refusal from error
    if tensor.dtype == torch.complex128:
        raise refusal
    return tensor


def _put_back(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if MARK in value:
            tensor = tensors[value[MARK]]
            return tensor.numpy() if value["numpy"] else tensor
        return {key: _put_back(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_back(item, tensors) for item in value]
    return value
