"""Starting weights that are damaged, foreign or hostile are refused before a run has a folder."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from fedsim.models import SmallCnn

Refused = Callable[..., str]
MODEL = {"kind": "small_cnn", "widths": [8, 16]}
DATA = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120}


def state() -> dict[str, Tensor]:
    return SmallCnn(widths=(8, 16)).build(1, 2, 16).state_dict()


def as_torch(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def header(content: Any, length: int | None = None) -> bytes:
    """Return a safetensors file without tensors whose header may lie about its length."""
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


def changed(change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    name, tensor = next(iter(state().items()))
    return {**state(), name: change(tensor)}


class Trap:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("sprung"),)


BIG = {"w": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}


@pytest.mark.filterwarnings("ignore")  # what torch says of sparse and quantised tensors
@pytest.mark.parametrize(
    ("suffix", "make", "message"),
    [
        (".safetensors", lambda: b"", "cannot be read as weights"),
        (".safetensors", lambda: to_safetensors(state())[:-5], "cannot be read as weights"),
        (".safetensors", lambda: header({}, 2**63 - 1), "cannot be read as weights"),
        (".safetensors", lambda: header({}, 10**8 - 1), "cannot be read as weights"),
        (".safetensors", lambda: header({"a": 1}), "cannot be read as weights"),
        (".safetensors", lambda: header(BIG), "cannot be read as weights"),
        (".safetensors", lambda: b"[" * 10**5, "cannot be read as weights"),
        (".safetensors", lambda: as_torch(state()), "cannot be read as weights"),
        (".safetensors", lambda: to_safetensors({"a": torch.ones(2)}), "do not fit the network"),
        (".safetensors", lambda: to_safetensors(changed(lambda t: t * torch.nan)), "not finite"),
        (".safetensors", lambda: to_safetensors(changed(lambda t: t / 0)), "not finite"),
        (".safetensors", lambda: to_safetensors(changed(lambda t: t.to(torch.int8))), "whole num"),
        (".pt", lambda: b"", "cannot be read as weights"),
        (".pt", lambda: as_torch(state())[:-500], "cannot be read as weights"),
        (".pt", lambda: as_torch({"w": Trap()}), "could run code of its author"),
        (".pt", lambda: pickle.dumps(Trap()), "damaged, or holds more than tensors"),
        (".pt", lambda: pickle.dumps({"w": [1.0]}), "holds more than tensors|state dict"),
        (".pt", lambda: as_torch([1, 2]), "expected a state dict"),
        (".pt", lambda: as_torch(changed(lambda t: t.to_sparse())), "some are sparse"),
        (".pt", lambda: as_torch(changed(lambda t: t.to("meta"))), "without values"),
        (".pt", lambda: as_torch(changed(lambda t: t.to(torch.complex64))), "complex"),
        (
            ".pt",
            lambda: as_torch(changed(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8))),
            "quantised|could run code",
        ),
        (".pt", lambda: as_torch(changed(lambda t: t.double() * 1e300)), "not finite"),
    ],
)
def test_bad_weights_are_refused_by_name(
    refused: Refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    make: Callable[[], bytes],
    message: str,
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"w{suffix}"
    file.write_bytes(make())
    said = refused(DATA, model={**MODEL, "weights": str(file)})
    assert said.startswith(f"{file}: ")
    assert re.search(message, said), said
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("path", ["absent.pt", "pipe.pt", "folder.safetensors", "/dev/zero"])
def test_what_is_no_file_is_told_and_not_waited_for(
    refused: Refused, tmp_path: Path, path: str
) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.safetensors").mkdir()
    said = refused(DATA, model={**MODEL, "weights": str(tmp_path / path)})
    assert f"{tmp_path / path}: " in said
    assert "is no file" in said or "cannot be read" in said
