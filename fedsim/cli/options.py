"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
