"""What one takes away from a run: weights, a program to run them, and a card about them.

model.safetensors    the parameters and buffers
model.pt2            the network as torch.export saves it, for any batch size, where it can be
model.json           how to build the network and bring images to it
MODEL_CARD.md        what it is, how it was made, how good it is, what it is not for
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from fedsim import model_card, trained
from fedsim.errors import InputError
from fedsim.models import weights
from fedsim.records import read
from fedsim.trained import DESCRIPTION, WEIGHTS, Trained, Which

PROGRAM, CARD = "model.pt2", "MODEL_CARD.md"
FILES = frozenset({WEIGHTS, PROGRAM, DESCRIPTION, CARD})
CLOSE = 1e-4
"""How far logits of the program may be from those of the network, relative to their size."""
log = logging.getLogger("fedsim")


def export(folder: str | Path, *, which: Which = "best", out: str | Path | None = None) -> Path:
    """Write the trained network of a run for use elsewhere, whole or not at all.

    Args:
        folder: of the run.
        which: the best round on validation images, or the final one.
        out: folder to write; `export` inside the run's by default. An earlier export is replaced.

    Returns:
        The folder written.

    Raises:
        InputError: if the run cannot be read, or the folder holds something else.
    """
    record = read(folder)
    network = trained.load(record.folder, which)
    target = Path(out) if out is not None else record.folder / "export"
    if target.exists() and not _replaceable(target):
        raise InputError(f"{target}: holds something else than an export; name another folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            _fill(draft, network)
            card = model_card.text(record, network, program=(draft / PROGRAM).exists())
            (draft / CARD).write_text(card, encoding="utf-8")
            draft.chmod(0o755)
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def _replaceable(target: Path) -> bool:
    """Return whether the folder holds nothing, or files of an export alone."""
    return target.is_dir() and {file.name for file in target.iterdir()} <= FILES


def _fill(folder: Path, network: Trained) -> None:
    state = {name: t.contiguous().clone() for name, t in network.network.state_dict().items()}
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    description = {
        **network.description,
        "sha256": weights.sha256(folder / WEIGHTS),
        "fedsim": version("fedsim-medical"),
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    known = network.description
    size = known["image_size"]
    images = torch.linspace(-1, 1, 3 * known["num_channels"] * size * size)
    reason = write_program(
        network.network, images.reshape(3, known["num_channels"], size, size), folder / PROGRAM
    )
    if reason:
        log.warning("no %s: the network cannot be exported: %s", PROGRAM, reason)


def write_program(network: nn.Module, images: torch.Tensor, path: Path) -> str:
    """Write the network as torch.export saves it and check it, or return why that cannot be.

    Args:
        network: in evaluation mode.
        images: three, as the network sees them.
        path: of the file.
    """
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(network, (images[:2],), dynamic_shapes=({0: batch},))
            torch.export.save(program, path)
            again = torch.export.load(path).module()
    except Exception as error:  # whatever torch says of a network that it cannot trace
        path.unlink(missing_ok=True)
        return str(error).splitlines()[0][:200]
    with torch.inference_mode():
        for some in (images, images[:1]):
            expected, found = network(some), again(some)
            if not torch.allclose(found, expected, rtol=CLOSE, atol=CLOSE):
                path.unlink()
                return "what is saved gives other logits"
    return ""
