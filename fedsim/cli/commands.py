"""The command line: `fedsim run FILE` and its neighbours."""

from __future__ import annotations

import errno
import gc
import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated, NoReturn

import click
import typer

from fedsim.cli import completion, opening
from fedsim.cli.assumption import Dimensions, Noise, Signal, assumption
from fedsim.cli.audit_command import audit
from fedsim.cli.data_commands import data
from fedsim.cli.init_command import init
from fedsim.cli.ledger_command import ledger
from fedsim.cli.options import File, Set
from fedsim.cli.plan_command import plan
from fedsim.cli.run_commands import conclude, resume, run
from fedsim.cli.streams import Lasting, visible
from fedsim.cli.study_command import study, validate_study
from fedsim.cli.taking_away import export, predict
from fedsim.cli.track_command import track
from fedsim.errors import FedsimError, InputError

DONE, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
UNUSABLE = {errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR}
"""What the system says of paths that nobody can use, wherever they are looked at first."""
COLLECTED_AFTER = 50_000
"""New objects after which Python looks for garbage: hardly any of what is loaded is."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Federated learning on medical images, from one scenario file.\n\n"
    "Start with `fedsim run scenarios/quickstart.yaml`, look into the folder it names last, then "
    "change the file: `fedsim list` shows what it may say, `fedsim validate` checks it. "
    "`fedsim init` writes such a file for images of your own.\n\n"
    "Exit codes: 0 done, 1 failure, 2 bad input, 130 interrupted (go on with `fedsim resume`).",
)


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


app.command()(init)
app.command()(run)
app.command()(resume)


@app.command()
def validate(file: File, changes: Set = None) -> None:
    """Check a scenario or study without running it; with the data at hand, also the sites.

    Every problem is printed with file, line, column and key.
    """
    from fedsim.scenario.load import read_draft
    from fedsim.study.load import is_of_study

    draft = read_draft(file, changes or ())
    if is_of_study(draft):
        validate_study(file, draft)
        return
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


for _command in (plan, ledger, audit, study, export, predict, track):
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
            help="a family (strategies), or a section (client) or kind (dirichlet) with its keys",
            autocompletion=completion.names,
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
    signal: Signal = None,
    noise: Noise = None,
    num_dimensions: Dimensions = None,
) -> None:
    """Print the results of runs; make tables, figures and page of runs and studies again.

    Of a study over bag sizes and an epsilon, levels that are assumed mark the size that theory
    calls best: nothing is estimated from labels.
    """
    from fedsim.records import read
    from fedsim.records.study import is_study, read_study

    assumed = assumption(signal, noise, num_dimensions)
    for folder in folders:
        if is_study(folder):
            from fedsim.study.conclusion import write_report

            typer.echo(str(write_report(read_study(folder), assumed)))
        else:
            conclude(read(folder), quiet=False, as_json=False)


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


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: SLURM, docker stop
    gc.set_threshold(COLLECTED_AFTER)
    out, err = Lasting(sys.stdout), Lasting(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err), _warnings_shown(err):
        code = _run_app()
        out.flush()
        if code == DONE and out.error and not isinstance(out.error, BrokenPipeError):
            typer.echo(f"Error: standard output cannot be written: {out.error.strerror}", err=True)
            code = FAILURE
    gc.freeze()  # at the end Python would look once more for garbage in all that was loaded: 1 s
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
    except FedsimError as error:
        _tell(str(error))
        return BAD_INPUT if isinstance(error, InputError) else FAILURE
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except OSError as error:
        if error.errno not in UNUSABLE or error.filename is None:
            raise
        _tell(f"{error.filename}: cannot be used: {error.strerror}")
        return BAD_INPUT


def _tell(error: str) -> None:
    """Print an error; what would steer the terminal, such as a file's odd name, is escaped."""
    typer.echo(f"Error: {visible(error)}", err=True)
