"""A network as a file that others run without its code, checked against the network itself.

Two formats of PyTorch's own, for torch 2.13 casts doubt on both: TorchScript is deprecated, though
every torch so far reads it, from C++ too; `torch.export` is its successor, but "saved files may not
be usable in newer versions of PyTorch". ONNX is for other runtimes and needs the extra `onnx`.

The same network gives the same bytes, but for TorchScript made twice by one process: torch then
numbers the names of the classes in it.
"""

from __future__ import annotations

import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

Format = Literal["pt2", "torchscript", "onnx"]
Shape = tuple[int, int, int]
FILES: Mapping[Format, str] = {
    "pt2": "model.pt2",
    "torchscript": "model.pt",
    "onnx": "model.onnx",
}
FOR_ONNX = ("onnx", "onnxscript", "onnxruntime")
FOLLOWED, COMPARED = 2, (3, 1)
"""Batch sizes: of the images that are followed through the network, and of those compared."""
CLOSE = 1e-4
"""How far logits may be from those of the network, relative to their size."""


class UnfaithfulError(Exception):
    """A network that a format cannot hold, with the reason."""


def write(network: nn.Module, format: Format, shape: Shape) -> bytes:
    """Return the network in a format, for any batch size; it names no path of this computer.

    Args:
        network: on the CPU, in evaluation mode: images (n, *shape), float32, to logits (n, class).
        format: which.
        shape: (channel, height, width).

    Raises:
        UnfaithfulError: if the format cannot hold it, or gives other logits.
    """
    make, run = _WRITERS[format]
    try:
        with _quiet():
            content = make(network, torch.zeros(FOLLOWED, *shape))
            furthest = _furthest(network, run(content), shape)
    except Exception as error:  # whatever torch says of a network that it cannot follow
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnfaithfulError(f"the network cannot be exported: {reason[:200]}") from error
    if not furthest <= 1:  # or not a number
        raise UnfaithfulError("what is saved gives other logits")
    return content


def missing_packages(format: Format) -> list[str]:
    """Return what a format needs and is not installed."""
    return [name for name in FOR_ONNX if find_spec(name) is None] if format == "onnx" else []


def _pt2(network: nn.Module, images: Tensor) -> bytes:
    program = torch.export.export(
        network, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def _run_pt2(content: bytes) -> Callable[[Tensor], Tensor]:
    return torch.export.load(io.BytesIO(content)).module()


def _torchscript(network: nn.Module, images: Tensor) -> bytes:
    jit: Any = torch.jit
    content, lean = io.BytesIO(), io.BytesIO()
    jit.save(jit.trace(network, images, check_trace=False), content)
    with zipfile.ZipFile(content) as archive, zipfile.ZipFile(lean, "w") as kept:
        for name in archive.namelist():
            if not name.endswith(".debug_pkl"):  # where the code of each layer stands
                kept.writestr(zipfile.ZipInfo(name), archive.read(name))
    return lean.getvalue()


def _run_torchscript(content: bytes) -> Callable[[Tensor], Tensor]:
    jit: Any = torch.jit
    program: Callable[[Tensor], Tensor] = jit.load(io.BytesIO(content))
    return program


def _onnx(network: nn.Module, images: Tensor) -> bytes:
    program: Any = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
    )
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # where the code of each layer stands
    content: bytes = model.SerializeToString()
    return content


def _run_onnx(content: bytes) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


_WRITERS = {
    "pt2": (_pt2, _run_pt2),
    "torchscript": (_torchscript, _run_torchscript),
    "onnx": (_onnx, _run_onnx),
}


def _furthest(network: nn.Module, other: Callable[[Tensor], Tensor], shape: Shape) -> float:
    """Return how far the logits of another network are at most, in units of what is close."""
    generator = torch.Generator().manual_seed(0)
    distances = []
    with torch.inference_mode():
        for size in COMPARED:
            images = torch.randn(size, *shape, generator=generator)
            expected = network(images)
            distances.append((other(images) - expected).abs() / (CLOSE * (1 + expected.abs())))
    return float(torch.cat(distances).max())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's warnings off the screen: what they warn of is compared instead."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
