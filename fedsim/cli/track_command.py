"""`fedsim track`: the numbers of a run in TensorBoard or MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

if TYPE_CHECKING:
    from fedsim.tracking import Tracker

TENSORBOARD, MLFLOW = "tensorboard", "mlflow"


def track(
    folder: Annotated[Path, typer.Argument(help="run folder", show_default=False)],
    to: Annotated[
        str, typer.Option(click_type=click.Choice([TENSORBOARD, MLFLOW]), show_default=False)
    ],
    out: Annotated[
        str,
        typer.Option(
            help="tensorboard: folder that gets one of the run's name; default: tensorboard. "
            "mlflow: URI of the server or store; default: MLFLOW_TRACKING_URI, or MLflow's own",
            show_default=False,
        ),
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow", help="while the run goes on, until it is finished")
    ] = False,
) -> None:
    """Copy the numbers of a run, by round, to a tracker; the run folder stays as it is."""
    from fedsim import tracking

    tracker = _tracker(folder, to, out)
    if follow:
        typer.echo(f"{tracker.place} follows {folder}; Ctrl-C ends it, not the run", err=True)
    record = tracking.track(folder, tracker, follow=follow)
    if not record.finished:
        typer.echo(f"{folder}: not finished; these are its numbers so far", err=True)
    typer.echo(tracker.place)


def _tracker(folder: Path, to: str, out: str) -> Tracker:
    from fedsim.records import read

    record = read(folder)
    if to == TENSORBOARD:
        from fedsim.tracking.tensorboard import TensorBoard

        return TensorBoard(Path(out or TENSORBOARD) / folder.absolute().name)
    from fedsim.tracking.mlflow import MLflow

    return MLflow(record, out)
