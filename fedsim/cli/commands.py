"""The command line: `fedsim run FILE` and its neighbours."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import click
import typer

from fedsim.cli import opening
from fedsim.cli.data_commands import data
from fedsim.cli.options import File, Set, number_of
from fedsim.cli.plan_command import plan
from fedsim.cli.progress import watching
from fedsim.cli.streams import Lasting, console
from fedsim.cli.study_command import study, validate_study
from fedsim.cli.taking_away import export, predict
from fedsim.errors import DivergedError, FedsimError, InputError, RunError

if TYPE_CHECKING:
    from fedsim.flower.server_app import Watcher
    from fedsim.records import RunRecord
    from fedsim.scenario import Scenario

EngineName = Literal["own", "flower"]
DONE, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Federated learning on medical images, from one scenario file.\n\n"
    "Start with `fedsim run scenarios/quickstart.yaml`, look into the folder it names last, then "
    "change the file: `fedsim list` shows what it may say, `fedsim validate` checks it.\n\n"
    "Exit codes: 0 done, 1 failure, 2 bad input, 130 interrupted (go on with `fedsim resume`).",
)

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


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"fedsim {version('fedsim-medical')}")
        raise typer.Exit()


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    """Take the options that belong to no command; the help text is that of `app`."""


@app.command()
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
    from fedsim import simulate

    folder = simulate.run_folder(scenario, out, run_name)
    with watching(quiet, as_json) as watch, _resumable(folder), draft.pointing():
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
    _conclude(record, quiet, as_json)


@app.command()
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
    from fedsim import simulate

    with watching(quiet, as_json) as watch, _resumable(folder):
        record = simulate.resume(
            folder, device=device, workers=number_of(workers), engine=engine, watch=watch
        )
    _conclude(record, quiet, as_json)


@app.command()
def validate(file: File, changes: Set = None) -> None:
    """Check a scenario or study without running it; with the data at hand, also the sites.

    Every problem is printed with file, line, column and key.
    """
    from fedsim.study.load import is_study_file

    if is_study_file(file):
        validate_study(file, changes)
        return
    draft = opening.read(file, changes)
    scenario = draft.scenario()
    valid = f"{file}: valid; digest {scenario.digest[:10]}"
    if not scenario.data.source.is_local():
        typer.echo(valid)
        typer.echo("the data are not on this computer: sites are checked when they are there")
        return
    population = opening.sites(file, draft, scenario)
    from fedsim import adversaries
    from fedsim.data import drawn_sites
    from fedsim.seeds import Streams

    typer.echo(valid)
    if drawn := drawn_sites.describe(population):
        sites = drawn_sites.text(drawn)
    else:
        sizes = population.sizes()
        sites = (
            f"{len(population)} sites with {min(sizes)} to {max(sizes)} training images, "
            f"{sum(sizes)} in all"
        )
    typer.echo(f"{sites}; classes: {', '.join(population.class_names)}")
    parts, streams = scenario.population.adversaries, Streams(scenario.seed)
    described = adversaries.choose(parts, population.names, streams).describe()
    if attack := adversaries.text(described, len(population)):
        typer.echo(attack)


for _command in (plan, study, export, predict):
    app.command()(_command)
app.add_typer(data, name="data")


@app.command()
def schema(
    of_studies: Annotated[bool, typer.Option("--study", help="of study files")] = False,
) -> None:
    """Print the JSON Schema of scenarios, for completion and checks in an editor."""
    from fedsim.scenario import Scenario
    from fedsim.study.study_file import Study

    contract = Study if of_studies else Scenario
    typer.echo(json.dumps(contract.model_json_schema(), indent=2))


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="a family (strategies), or a section (client) or kind (dirichlet) with its keys"
        ),
    ] = None,
) -> None:
    """List what a scenario may choose from, built in or brought by installed packages."""
    from fedsim.cli import catalogue

    typer.echo(catalogue.describe(kind))


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="folders of runs and studies", show_default=False)
    ],
) -> None:
    """Print the results of runs; make tables, figures and page of runs and studies again."""
    from fedsim.records import read
    from fedsim.records.study import is_study, read_study

    for folder in folders:
        if is_study(folder):
            from fedsim.study.conclusion import write_report

            typer.echo(str(write_report(read_study(folder))))
        else:
            _conclude(read(folder), quiet=False, as_json=False)


@app.command()
def cite(
    path: Annotated[
        Path,
        typer.Argument(
            help="folder of a run or study, or file (YAML) of a scenario or study",
            show_default=False,
        ),
    ],
    changes: Set = None,
) -> None:
    """Print the BibTeX of methods, images and software that a run, study or scenario uses."""
    from fedsim import citations
    from fedsim.records import read
    from fedsim.records.examples import examples
    from fedsim.records.study import is_study, read_study
    from fedsim.study.load import is_study_file, load_study

    if is_study(path) and (runs := examples(read_study(path))):
        entries = citations.of_runs(runs.values())
    elif is_study(path) or is_study_file(path):
        cells = load_study(path, changes or ()).first_cells()
        entries = citations.of_scenarios(cell.scenario for cell in cells)
    elif path.is_dir():
        entries = citations.of_runs([read(path)])
    else:
        entries = citations.of_scenarios([opening.read(path, changes).scenario()])
    typer.echo("\n\n".join(entries))


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


def _conclude(record: RunRecord, quiet: bool, as_json: bool) -> None:
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


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: SLURM, docker stop
    out, err = Lasting(sys.stdout), Lasting(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err), _warnings_shown(err):
        code = _run_app()
        out.flush()
        if code == DONE and out.error and not isinstance(out.error, BrokenPipeError):
            typer.echo(f"Error: standard output cannot be written: {out.error.strerror}", err=True)
            code = FAILURE
    sys.exit(code)


@contextmanager
def _warnings_shown(stream: Lasting) -> Iterator[None]:
    """Show what fedsim warns of, such as bits that may differ; errors are shown as such."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("Warning: %(message)s"))
    handler.addFilter(lambda record: record.levelno == logging.WARNING)
    log = logging.getLogger("fedsim")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _run_app() -> int:
    try:
        return app(standalone_mode=False) or DONE
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except InputError as error:
        typer.echo(f"Error: {error}", err=True)
        return BAD_INPUT
    except FedsimError as error:
        typer.echo(f"Error: {error}", err=True)
        return FAILURE
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
