"""`fedsim run` and `fedsim resume`: a run to its end, and what is printed of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedsim.cli import opening
from fedsim.cli.interruption import finishing_rounds
from fedsim.cli.options import File, Set, number_of
from fedsim.cli.progress import watching
from fedsim.cli.streams import console
from fedsim.engines import nursery
from fedsim.errors import DivergedError, InputError, RunError

if TYPE_CHECKING:
    from fedsim.flower.server_app import Watcher
    from fedsim.records import RunRecord
    from fedsim.scenario import Scenario

EngineName = Literal["own", "flower"]
Folder = Annotated[Path, typer.Argument(help="run folder", show_default=False)]
Workers = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="processes that train sites side by side, or auto: one for each core; "
        "the results are the same bits",
    ),
]
Engine = Annotated[
    EngineName,
    typer.Option(
        help="own, or flower: Flower's Simulation Runtime, workers being actors of Ray's "
        "(pip install 'fedsim-medical[ray]'); the results are the same bits",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print the run folder alone")]
Json = Annotated[
    bool, typer.Option("--json", help="print one JSON object per round, the results last")
]


def run(
    file: File,
    changes: Set = None,
    out: Annotated[Path, typer.Option(help="folder for run folders")] = Path("runs"),
    run_name: Annotated[
        str | None, typer.Option(help="name of the run folder; default: scenario and digest")
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="auto, cpu, cuda, mps, or several, over which workers are spread: cuda:0,cuda:1; "
            "results repeat per device type"
        ),
    ] = "auto",
    keep_every: Annotated[
        int | None,
        typer.Option(min=1, help="keep every so many checkpoints beside the last and the best"),
    ] = None,
    workers: Workers = "1",
    engine: Engine = "own",
    leave_one_site_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-site-out",
            help="run once without each site and test on it; goes on where it was stopped",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a scenario from its beginning to its end; the last line is the run folder."""
    draft = opening.read(file, changes)
    scenario = draft.scenario()
    if leave_one_site_out:
        if engine != "own":
            raise InputError(
                "--leave-one-site-out starts many runs, and the engine flower takes "
                "seconds to start each: leave --engine out"
            )
        with draft.pointing():
            _leave_one_site_out(
                scenario, out, run_name, device, keep_every, number_of(workers), quiet, as_json
            )
        return
    _prepare_workers(workers, engine, device)
    from fedsim import simulate

    folder = simulate.run_folder(scenario, out, run_name)
    with (
        _resumable(folder),
        watching(quiet, as_json) as shown,
        _stopping(shown, engine) as watch,
        draft.pointing(),
    ):
        record = simulate.run(
            scenario,
            out=out,
            name=run_name,
            device=device,
            keep_every=keep_every,
            workers=number_of(workers),
            engine=engine,
            watch=watch,
        )
    conclude(record, quiet, as_json)


def resume(
    folder: Folder,
    device: Annotated[
        str | None,
        typer.Option(help="as in `fedsim run`; default: the one of the run", show_default=False),
    ] = None,
    workers: Workers = "1",
    engine: Engine = "own",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on with a run after a crash or Ctrl-C, to the same bits."""
    _prepare_workers(workers, engine, device or "auto")
    from fedsim import simulate

    with _resumable(folder), watching(quiet, as_json) as shown, _stopping(shown, engine) as watch:
        record = simulate.resume(
            folder, device=device, workers=number_of(workers), engine=engine, watch=watch
        )
    conclude(record, quiet, as_json)


def _prepare_workers(workers: str, engine: EngineName, device: str) -> None:
    """Let what workers need be loaded beside what this process needs, if there may be some."""
    if number_of(workers) != 1 and engine == "own" and device in ("auto", "cpu"):
        nursery.prepare()


def _stopping(watch: Watcher, engine: EngineName) -> AbstractContextManager[Watcher]:
    """Return what decides what Ctrl-C does; Flower's processes get it too, and end at once."""
    return finishing_rounds(watch) if engine == "own" else nullcontext(watch)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say how to go on when a run stops early."""
    try:
        yield
    except (KeyboardInterrupt, RunError) as stop:
        goes_on = not isinstance(stop, DivergedError)
        if goes_on and (folder / "run.json").is_file():
            typer.echo(f"Stopped. Go on with: fedsim resume {_quoted(folder)}", err=True)
        raise


def conclude(record: RunRecord, quiet: bool, as_json: bool) -> None:
    """Print the results, write tables and figures and, last, name the run folder."""
    from fedsim import report

    if as_json:
        results = report.results(record)
        typer.echo(json.dumps({"event": "done", "run": str(record.folder), "results": results}))
    elif not quiet:
        report.render(record, console())
    try:
        report.write(record)
        if not (quiet or as_json):
            size = sum(file.stat().st_size for file in record.folder.rglob("*") if file.is_file())
            typer.echo(f"figures, tables and page: {record.folder / 'report' / 'index.html'}")
            typer.echo(f"size of the run folder: {size / 1e6:.1f} MB")
    except (KeyboardInterrupt, RunError):
        typer.echo(
            "The results are complete, figures and tables are not. Make them with: "
            f"fedsim report {_quoted(record.folder)}",
            err=True,
        )
        raise
    finally:
        if not as_json:
            typer.echo(str(record.folder))


def _leave_one_site_out(
    scenario: Scenario,
    out: Path,
    run_name: str | None,
    device: str,
    keep_every: int | None,
    workers: int | Literal["auto"],
    quiet: bool,
    as_json: bool,
) -> None:
    """Run without each site, print the table over them and, last, name the folder of the runs."""
    from fedsim import leave_one_out, report
    from fedsim.report import leave_one_out as table

    folder = leave_one_out.folder_of(scenario, out, run_name)
    with ExitStack() as stack:

        def watch(site: str) -> Watcher:
            stack.close()
            if not quiet:
                typer.echo(f"without {site}", err=True)
            return stack.enter_context(watching(quiet, as_json))

        records = leave_one_out.run(
            scenario,
            out=out,
            name=run_name,
            device=device,
            keep_every=keep_every,
            workers=workers,
            watch=watch,
        )
    for record in records:
        report.write(record)
    table.write(records, folder)
    if as_json:
        typer.echo(
            json.dumps({"event": "done", "run": str(folder), "results": table.rows(records)})
        )
        return
    if not quiet:
        table.render(records, console())
    typer.echo(str(folder))


def _quoted(folder: Path) -> str:
    return shlex.quote(str(folder))
