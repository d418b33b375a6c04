"""What one takes away from a run: weights, programs to run them, and a card about them.

model.safetensors    the parameters and buffers
model.pt2, model.pt, model.onnx
                     the network itself for any batch size, see `fedsim.formats`, where it can be
model.json           how to build the network and bring images to it
MODEL_CARD.md        what it is, how it was made, how good it is, what it is not for
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import save_file

from fedsim import formats, model_card, trained
from fedsim.drafts import whole_folder
from fedsim.errors import InputError
from fedsim.formats import Format, UnfaithfulError
from fedsim.models import weights
from fedsim.records import read
from fedsim.trained import DESCRIPTION, WEIGHTS, Trained, Which

CARD = "MODEL_CARD.md"
FILES = frozenset({WEIGHTS, *formats.FILES.values(), DESCRIPTION, CARD})
PROGRAMS: tuple[Format, ...] = ("pt2", "torchscript")
"""What is written unless other formats are asked for."""
log = logging.getLogger("fedsim")


def export(
    folder: str | Path,
    *,
    which: Which = "best",
    out: str | Path | None = None,
    programs: Collection[Format] = PROGRAMS,
) -> Path:
    """Write the trained network of a run for use elsewhere, whole or not at all.

    Args:
        folder: of the run.
        which: the best round on validation images, or the final one.
        out: folder to write; `export` inside the run's by default. An earlier export is replaced.
        programs: formats of the network itself: `pt2`, `torchscript`, `onnx`, or none. One that
            cannot hold the network is left out with a warning.

    Returns:
        The folder written.

    Raises:
        InputError: if the run cannot be read, the folder holds something else, or a format needs
            packages that are not installed.
    """
    _need_packages(programs)
    record = read(folder)
    network = trained.load(record.folder, which)
    target = Path(out) if out is not None else record.folder / "export"
    if target.exists() and not _replaceable(target):
        raise InputError(f"{target}: holds something else than an export; name another folder")
    with whole_folder(target) as draft:
        _fill(draft, network)
        card = model_card.text(record, network, _write_programs(draft, network, programs))
        (draft / CARD).write_text(card, encoding="utf-8")
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


def _write_programs(folder: Path, network: Trained, wanted: Collection[Format]) -> list[Format]:
    """Write the formats that can hold the network, and return them."""
    known = network.description
    shape = (known["num_channels"], known["image_size"], known["image_size"])
    written: list[Format] = []
    for format, name in formats.FILES.items():
        if format in wanted:
            try:
                (folder / name).write_bytes(formats.write(network.network, format, shape))
                written.append(format)
            except UnfaithfulError as error:
                log.warning("no %s: %s", name, error)
    return written


def _need_packages(programs: Collection[Format]) -> None:
    """Refuse formats that cannot be written here.

    Raises:
        InputError: naming the packages to install.
    """
    missing = [name for format in programs for name in formats.missing_packages(format)]
    if missing:
        raise InputError(
            f"format onnx needs packages that are not here: {', '.join(missing)}; "
            "install fedsim's extra `onnx`, or choose another format"
        )
