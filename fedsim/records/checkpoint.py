"""Checkpoints: nested state as one safetensors file.

The tensors and arrays of the state go into the file under their path; the rest of it, with a mark
where each of them was, goes into the file's metadata as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedsim.errors import InputError
from fedsim.records.files import write_whole

MARK = "__tensor__"


def path_of(folder: Path, round: int) -> Path:
    """Return where the checkpoint of a round stands in a run folder."""
    return folder / "checkpoints" / f"round-{round:05d}.safetensors"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state: dicts (string keys) and lists of tensors, numpy arrays and plain values."""
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    skeleton = json.dumps(_take_out(state, "", tensors))
    write_whole(path, lambda file: save_file(tensors, file, {"state": skeleton}))


def load(path: Path) -> dict[str, Any]:
    """Return the state that was saved.

    Raises:
        InputError: if the file is no checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            skeleton = json.loads(file.metadata()["state"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no checkpoint that can be read: {error}") from error
    state: dict[str, Any] = _put_back(skeleton, tensors)
    return state


def _take_out(value: Any, path: str, tensors: dict[str, Any]) -> Any:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor | np.ndarray):
        is_array = isinstance(value, np.ndarray)
        tensor = torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
        tensors[path] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {MARK: path, "numpy": is_array}
    if isinstance(value, dict):
        return {key: _take_out(item, f"{path}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_take_out(item, f"{path}/{n}", tensors) for n, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state{path} is a {type(value).__name__}, which a checkpoint cannot hold")


def _put_back(value: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if MARK in value:
            tensor = tensors[value[MARK]]
            return tensor.numpy() if value["numpy"] else tensor
        return {key: _put_back(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_back(item, tensors) for item in value]
    return value
