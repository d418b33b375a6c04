"""`fedsim init`: a commented scenario to start from, for data that it looks at first."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedsim.cli import completion
from fedsim.cli.streams import visible
from fedsim.errors import InputError

SUFFIXES = (".yaml", ".yml")


def init(
    data: Annotated[
        str,
        typer.Argument(
            help="CSV manifest, folder of pictures, arrays (npz), a name of `fedsim data list`, or "
            "synthetic",
            show_default=False,
            autocompletion=completion.data,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="file to write; default: NAME.yaml, here", show_default=False),
    ] = None,
) -> None:
    """Look at your data and write a commented scenario for them; no file is overwritten."""
    from fedsim import starter

    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {out}: expected a file that ends in .yaml")
    if out is not None:
        _refuse(out)
    seen = starter.look(data)
    file = out or Path(f"{seen.title}.yaml")
    _refuse(file)
    text = starter.scenario_for(seen, file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}") from error
    for line in seen.lines():
        typer.echo(visible(line))
    name = shlex.quote(str(file))
    typer.echo(f"\nwritten: {file}. Read it, then:")
    for command, purpose in (
        ("data preview", "look at the images by site and class"),
        ("plan", "who holds what, the cost, what would fail"),
        ("run", "train, and write a report"),
    ):
        typer.echo(f"  {f'fedsim {command} {name}':<{len(name) + 20}}  # {purpose}")


def _refuse(file: Path) -> None:
    """Refuse to write over a file.

    Raises:
        InputError: if it exists.
    """
    if file.exists() or file.is_symlink():
        raise InputError(f"{file}: exists and is left alone; name another file with --out")
