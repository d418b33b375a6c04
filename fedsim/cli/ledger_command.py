"""`fedsim ledger`: what a run released and what that comes to, from its ledger alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fedsim.errors import InputError, RunError


def ledger(
    path: Annotated[Path, typer.Argument(help="run folder, or a ledger.jsonl", show_default=False)],
    delta: Annotated[
        float | None,
        typer.Option(
            help="at which epsilon is wanted, above 0 and below 1; default: that of the run",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Recompute what a run costs in privacy, from its ledger alone and by several accountants."""
    from fedsim.cli.balance_sheet import print_balance
    from fedsim.privacy.balance import balance
    from fedsim.privacy.ledger import entries
    from fedsim.records.files import read_lines

    file = path / "ledger.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"{path}: has no ledger; runs of scenarios with a privacy section write one"
        )
    at = _delta(path) if delta is None else delta
    if not 0 < at < 1:
        raise InputError(f"--delta: expected a number above 0 and below 1, got {at:g}")
    found = balance(entries(read_lines(file)), at)
    if as_json:
        typer.echo(json.dumps(found.as_data()))
    else:
        print_balance(found)
    for warning in found.warnings():
        typer.echo(f"Warning: {warning}", err=True)
    if alarms := [alarm for verdict in found.federation for alarm in verdict.alarms()]:
        raise RunError("\n".join(alarms))


def _delta(path: Path) -> float:
    """Return the delta of a run.

    Raises:
        InputError: if this is no run folder.
    """
    from fedsim.records import read

    if not path.is_dir():
        raise InputError(f"{path}: does not say at which delta: give --delta, such as 1e-5")
    return float(read(path).scenario["privacy"]["delta"])
