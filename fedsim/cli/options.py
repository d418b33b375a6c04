"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedsim.errors import InputError

File = Annotated[Path, typer.Argument(help="scenario file (YAML)", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.PATH=VALUE",
        help="change the scenario before it is checked; may be repeated. "
        "Example: --set rounds=3 --set client.objective.weight=0.03",
    ),
]

MOST_DIGITS = 5
"""Of a number of workers."""


def number_of(workers: str) -> int | Literal["auto"]:
    """Return how many workers are meant.

    Raises:
        InputError: if that is no number above 0.
    """
    if workers == "auto":
        return "auto"
    if not workers.isdecimal() or len(workers) > MOST_DIGITS or int(workers) < 1:
        raise InputError(f"--workers {workers}: expected a number above 0, or auto")
    return int(workers)
