"""The command line: `fedsim run FILE` and its neighbours."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import click
import typer

from fedsim.cli.progress import watching
from fedsim.errors import FedsimError, InputError, RunError

if TYPE_CHECKING:
    from fedsim.records import RunRecord
    from fedsim.scenario import Scenario

DONE, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Federated and privacy-aware learning on medical images, from one scenario file.\n\n"
    "Start with `fedsim run scenarios/quickstart.yaml`, look into the folder it names last, then "
    "change the file: `fedsim list` shows what it may say, `fedsim validate` checks it.\n\n"
    "Exit codes: 0 done, 1 failure, 2 bad input, 130 interrupted (go on with `fedsim resume`).",
)

File = Annotated[Path, typer.Argument(help="scenario file (YAML)", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="run folder", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.PATH=VALUE",
        help="change the scenario before it is checked; may be repeated. "
        "Example: --set rounds=3 --set client.objective.weight=0.03",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print the run folder alone")]
Json = Annotated[
    bool, typer.Option("--json", help="print one JSON object per round, the results last")
]


@app.command()
def run(
    file: File,
    changes: Set = None,
    out: Annotated[Path, typer.Option(help="folder for run folders")] = Path("runs"),
    run_name: Annotated[
        str | None, typer.Option(help="name of the run folder; default: scenario and digest")
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1, mps; results repeat per device type")
    ] = "auto",
    keep_every: Annotated[
        int | None,
        typer.Option(min=1, help="keep every so many checkpoints beside the last and the best"),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a scenario from its beginning to its end; the last line is the run folder."""
    scenario = _load(file, changes)
    from fedsim import simulate

    folder = simulate.run_folder(scenario, out, run_name)
    with watching(quiet, as_json) as watch, _resumable(folder):
        record = simulate.run(
            scenario, out=out, name=run_name, device=device, keep_every=keep_every, watch=watch
        )
    _conclude(record, quiet, as_json)


@app.command()
def resume(folder: Folder, quiet: Quiet = False, as_json: Json = False) -> None:
    """Go on with a run after a crash or Ctrl-C, to the same bits."""
    from fedsim import simulate

    with watching(quiet, as_json) as watch, _resumable(folder):
        record = simulate.resume(folder, watch=watch)
    _conclude(record, quiet, as_json)


@app.command()
def validate(file: File, changes: Set = None) -> None:
    """Check a scenario without running it; with the data at hand, also what the sites would hold.

    Every problem is printed with file, line, column and key.
    """
    scenario = _load(file, changes)
    typer.echo(f"{file}: valid; digest {scenario.digest[:10]}")
    if not scenario.data.source.is_local():
        typer.echo("the data are not on this computer: sites are checked when they are there")
        return
    from fedsim.scenario import open_population

    population = open_population(scenario)
    sizes = [int(population.class_counts(site, "train").sum()) for site in range(len(population))]
    typer.echo(
        f"{len(population)} sites with {min(sizes)} to {max(sizes)} training images, "
        f"{sum(sizes)} in all; classes: {', '.join(population.class_names)}"
    )


@app.command()
def schema() -> None:
    """Print the JSON Schema of scenarios, for completion and checks in an editor."""
    from fedsim.scenario import Scenario

    typer.echo(json.dumps(Scenario.model_json_schema(), indent=2))


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(help="a family (strategies), or one kind (dirichlet) with its keys"),
    ] = None,
) -> None:
    """List what a scenario may choose from, built in or brought by installed packages."""
    from fedsim.cli import catalogue

    typer.echo(catalogue.describe(kind))


@app.command()
def report(folder: Folder) -> None:
    """Make tables and figures of a run again and print the results."""
    from fedsim.records import read

    _conclude(read(folder), quiet=False, as_json=False)


def _load(file: Path, changes: list[str] | None) -> Scenario:
    from fedsim.scenario import load_scenario

    return load_scenario(file, changes or ())


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say how to go on when a run stops early."""
    try:
        yield
    except (KeyboardInterrupt, RunError):
        if (folder / "run.json").is_file():
            typer.echo(f"Stopped. Go on with: fedsim resume {folder}", err=True)
        raise


def _conclude(record: RunRecord, quiet: bool, as_json: bool) -> None:
    """Write tables and figures, print the results and, last, the run folder."""
    from fedsim import report

    report.write(record)
    if as_json:
        results = report.results(record)
        typer.echo(json.dumps({"event": "done", "run": str(record.folder), "results": results}))
        return
    if not quiet:
        from rich.console import Console

        report.render(record, Console())
        size = sum(file.stat().st_size for file in record.folder.rglob("*") if file.is_file())
        typer.echo(f"figures and tables: {record.folder / 'report'}")
        typer.echo(f"size of the run folder: {size / 1e6:.1f} MB")
    typer.echo(str(record.folder))


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        code = app(standalone_mode=False) or DONE
    except click.ClickException as error:
        error.show()
        code = BAD_INPUT
    except InputError as error:
        typer.echo(f"Error: {error}", err=True)
        code = BAD_INPUT
    except FedsimError as error:
        typer.echo(f"Error: {error}", err=True)
        code = FAILURE
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    sys.exit(code)
