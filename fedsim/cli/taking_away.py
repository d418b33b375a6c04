"""`fedsim export` and `fedsim predict`: what one takes away from a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from fedsim.cli.progress import counting
from fedsim.errors import InputError

Which = Annotated[
    str | None,
    typer.Option(
        click_type=click.Choice(["best", "final"]),
        show_default=False,
        help="the round that was best on validation images (default), or the final one",
    ),
]
PROGRAMS = ("pt2", "torchscript", "onnx")


def export(
    folder: Annotated[Path, typer.Argument(help="run folder", show_default=False)],
    which: Which = None,
    out: Annotated[
        Path | None,
        typer.Option(help="folder to write; default: export, inside the run's", show_default=False),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            click_type=click.Choice(["safetensors", *PROGRAMS, "all"]),
            show_default=False,
            help="of the network itself; may be repeated. Default: pt2 and torchscript. The "
            "weights are always written as safetensors, `--format safetensors` writes them alone",
        ),
    ] = None,
) -> None:
    """Write the trained model for use elsewhere: weights, programs, description, model card."""
    from fedsim import export_folder

    programs: Any = export_folder.PROGRAMS if formats is None else formats
    if "all" in programs:
        programs = PROGRAMS
    chosen: Any = which or "best"
    typer.echo(str(export_folder.export(folder, which=chosen, out=out, programs=programs)))


def predict(
    folder: Annotated[Path, typer.Argument(help="run folder or export", show_default=False)],
    images: Annotated[
        Path,
        typer.Argument(help="picture, folder of pictures, or CSV with a column path"),
    ],
    which: Which = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV file; default: standard output", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
) -> None:
    """Write what the trained model says of pictures: class and probabilities, or the number."""
    if out is not None and out.exists():
        raise InputError(f"{out}: exists; name another file")
    from fedsim.prediction import predict
    from fedsim.records.files import write_bytes, writing
    from fedsim.spreadsheet import to_csv

    chosen: Any = which
    with counting("pictures") as watch:
        rows = predict(folder, images, which=chosen, device=device, watch=watch)
    text = to_csv(rows)
    if out is None:
        sys.stdout.write(text)
        return
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, text.encode("utf-8", "surrogateescape"))  # paths that are no UTF-8 stay
    typer.echo(str(out))
