"""Starting weights from a local file, and a report of what of it fits."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedsim.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep a state dict among other things."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What wrappers of networks put in front of every name."""
SHOWN = 5


@dataclass(frozen=True)
class Fitted:
    """What became of the tensors of a file.

    Args:
        loaded: names that the network has in the same shape; these were copied.
        missing: names of the network that the file lacks; these keep their random values.
        unused: names of the file that the network lacks.
        misfit: names in both, with the shape in the file and the one in the network.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    misfit: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def text(self) -> str:
        """Return the report, one line per group."""
        lines = [f"{len(self.loaded)} tensors loaded"]
        if self.missing:
            lines.append(f"{len(self.missing)} not in the file, left random: {_few(self.missing)}")
        if self.misfit:
            shapes = [f"{name} {there} for {here}" for name, there, here in self.misfit]
            lines.append(f"{len(shapes)} of another shape, left random: {_few(shapes)}")
        if self.unused:
            lines.append(f"{len(self.unused)} of the file unused: {_few(self.unused)}")
        return "\n".join(lines)


def load(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a torch state dict; no code of it is run.

    A state dict inside a checkpoint is found under its usual names.

    Raises:
        DataError: if the file is missing, damaged, or holds anything else than numbers in tensors.
    """
    content = _unwrapped(_read(path))
    if not isinstance(content, Mapping) or not content or not _are_tensors(content):
        raise DataError(f"{path}: expected a state dict (names and tensors), found something else")
    if odd := [name for name, tensor in content.items() if not _is_plain(tensor)]:
        raise DataError(
            f"{path}: expected tensors of numbers, but some are sparse, quantised, complex or "
            f"without values: {_few(odd)}; save them as plain ones"
        )
    return dict(content)


def fit(network: nn.Module, tensors: Mapping[str, Tensor]) -> Fitted:
    """Copy into the network what has the same name and shape, and say what did not.

    Where no name is shared, a prefix that a wrapper put in front of every name is taken off.

    Args:
        network: changed in place, unless this raises.
        tensors: by name; cast to the network's dtypes.

    Raises:
        DataError: if nothing fits, a value is not finite, or whole numbers stand for parameters.
    """
    own = network.state_dict()
    tensors = _without_prefix(tensors, own)
    shared = [name for name in own if name in tensors]
    fitting = [name for name in shared if own[name].shape == tensors[name].shape]
    whole = [n for n in fitting if own[n].is_floating_point() > tensors[n].is_floating_point()]
    if whole:
        raise DataError(
            f"the weights are whole numbers ({tensors[whole[0]].dtype}) where the network has "
            f"{own[whole[0]].dtype}: {_few(whole)}; convert them before"
        )
    loaded = {name: tensors[name].to(own[name]) for name in fitting}
    if not loaded:
        raise DataError(
            f"the weights do not fit the network at all: the file has {_shapes(tensors)}; "
            f"the network has {_shapes(own)}"
        )
    if bad := [name for name, tensor in loaded.items() if not tensor.isfinite().all()]:
        raise DataError(f"the weights are not finite: {_few(bad)}")
    for name, tensor in loaded.items():
        own[name].copy_(tensor)
    return Fitted(
        loaded=tuple(loaded),
        missing=tuple(name for name in own if name not in tensors),
        unused=tuple(name for name in tensors if name not in own),
        misfit=tuple(
            (name, tuple(tensors[name].shape), tuple(own[name].shape))
            for name in shared
            if name not in loaded
        ),
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        DataError: if it cannot be read.
    """
    _check_regular(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _check_regular(path: Path) -> None:
    """Refuse a pipe, a device or a folder: reading one might never end.

    Raises:
        DataError: if it is there and no file.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no file; expected weights, as safetensors or a state dict")


def _read(path: Path) -> Any:
    """Return what is in the file.

    Raises:
        DataError: if it cannot be read without running code of it, or at all.
    """
    import torch
    from safetensors.torch import load_file

    _check_regular(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: is damaged, or holds more than tensors and could run code of its author: "
            "save the state dict alone, torch.save(network.state_dict(), ...), or as safetensors"
        ) from error
    except Exception as error:  # whatever the readers meet in a damaged file
        reason = str(error)[:200] or type(error).__name__
        raise DataError(f"{path}: cannot be read as weights: {reason}") from error


def _unwrapped(content: Any) -> Any:
    inside = [content.get(key) for key in WRAPPERS] if isinstance(content, Mapping) else []
    return next((found for found in inside if isinstance(found, Mapping)), content)


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    import torch

    return all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    )


def _is_plain(tensor: Tensor) -> bool:
    import torch

    odd = tensor.is_meta or tensor.is_quantized or tensor.is_complex() or tensor.is_nested
    return tensor.layout == torch.strided and not odd


def _without_prefix(tensors: Mapping[str, Tensor], own: Collection[str]) -> Mapping[str, Tensor]:
    if not tensors or any(name in own for name in tensors):
        return tensors
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            return _without_prefix({n.removeprefix(prefix): t for n, t in tensors.items()}, own)
    return tensors


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    first = [f"{name} {tuple(tensors[name].shape)}" for name in list(tensors)[:SHOWN]]
    rest = len(tensors) - len(first)
    return ", ".join(first) + (f" and {rest} more" if rest else "")


def _few(names: Iterable[str]) -> str:
    """Return some of the names, grouped by module where there are many."""
    listed = list(names)
    if len(listed) <= SHOWN:
        return ", ".join(listed)
    modules = Counter(name.split(".")[0] for name in listed)
    if len(modules) <= SHOWN:
        return ", ".join(f"{module}.* ({count})" for module, count in modules.items())
    return ", ".join(listed[:SHOWN]) + f" and {len(listed) - SHOWN} more"
