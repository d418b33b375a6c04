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
            help="at which epsilon is wanted, 1e-9 to 1; default: that of the run",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Recompute what a run costs in privacy, from its ledger alone and by several accountants."""
    from fedsim.cli.balance_sheet import print_balance
    from fedsim.privacy.balance import balance, needs_delta
    from fedsim.privacy.ledger import entries
    from fedsim.privacy.units import SMALLEST_DELTA
    from fedsim.records import read
    from fedsim.records.files import check_whole, read_lines
    from fedsim.scenario.promises import delta_of

    file = path / "ledger.jsonl" if path.is_dir() else path
    record = read(path) if (path / "run.json").is_file() else None
    if not file.is_file():
        raise InputError(f"{path}: {_why_without_ledger(path)}")
    check_whole(file)
    if delta is not None and not SMALLEST_DELTA <= delta < 1:
        raise InputError(
            f"--delta: expected a number below 1 and at least {SMALLEST_DELTA:g}, below which "
            f"accountants in double precision are lost, got {delta:g}"
        )
    try:
        released = entries(read_lines(file))
    except (InputError, ValueError, TypeError) as error:
        raise InputError(
            f"{file}: is no ledger of a run: {error}. Give a run folder, or the ledger.jsonl of one"
        ) from error
    if record is None or not record.check_ledger():
        typer.echo(f"{file}: no checkpoint vouches for it, taken as complete", err=True)
    at = delta or (0.0 if record is None else delta_of(record.scenario))
    if not at and needs_delta(released):
        raise InputError(f"{path}: does not say at which delta: give --delta, such as 1e-5")
    shared = () if record is None else record.population.get("shared_patients", ())
    found = balance(released, at, shared)
    if as_json:
        typer.echo(json.dumps(found.as_data()))
    else:
        print_balance(found)
    for warning in found.warnings():
        typer.echo(f"Warning: {warning}", err=True)
    if alarms := [alarm for verdict in found.federation for alarm in verdict.alarms()]:
        raise RunError("\n".join(alarms))


def _why_without_ledger(path: Path) -> str:
    """Return what a path without a ledger is instead."""
    if not path.exists():
        return "there is no such file or folder"
    if (path / "study.json").is_file():
        return f"is a study; give one of its runs, which lie in {path.parent / 'cells'}"
    if path.is_dir() and not (path / "run.json").is_file():
        return "is no run folder (it has no run.json)"
    return (
        "has no ledger; runs of scenarios with a privacy section, or with label_privacy, write one"
    )
