"""`fedsim study`: methods compared over settings and seeds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsim.cli.options import number_of
from fedsim.cli.quantities import time
from fedsim.cli.streams import console
from fedsim.cli.study_progress import watching_study
from fedsim.errors import RunError

if TYPE_CHECKING:
    from fedsim.records.study import StudyRecord
    from fedsim.scenario.written import Written
    from fedsim.study.design import Design
    from fedsim.study.forecast import Forecast


def study(
    file: Annotated[
        Path, typer.Argument(help="study file (YAML), or a study folder to go on with")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY.PATH=VALUE",
            help="change the study file before it is checked; may be repeated. "
            "Example: --set seeds=5 --set tune.trials=4",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="folder for the study folder and the runs, which lie in its folder `cells`; "
            "default: runs",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="as in `fedsim run`; workers are spread over several")
    ] = "auto",
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="cells that run side by side, each in a process of its own, or auto: one for each "
            "core; the results are the same bits",
        ),
    ] = "1",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="say what would run, how long it takes and what the seeds can show"
        ),
    ] = False,
    pilot: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1_000,
            metavar="N",
            help="run every method as it is set on N seeds of their own, so that --dry-run knows "
            "how much values differ between seeds",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="print the study folder alone")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object per cell, the results last")
    ] = False,
) -> None:
    """Compare methods: one file, many runs, one answer; the last line is the study folder.

    A study file names a base scenario, a question with its primary metric and reference, the
    methods with what each of them tunes, and what is varied. Every combination of method, setting
    and seed is a *cell*: an ordinary run folder in `OUT/cells`, named by the digest of its
    scenario. A cell that is there is never run again, so

    - after Ctrl-C or a crash the same command goes on where it was;
    - another seed, method or setting costs its own cells alone;
    - two studies share the runs that both need.

    Every method gets the same number of tuning trials, on seeds of their own, judged by validation
    images; the first trial is the method as it is set. Question, metric, reference and tests are
    fixed before the first cell runs: a changed file is a new study beside the old one.

    **Begin with** `fedsim study FILE --pilot 3`, then `fedsim study FILE --dry-run`: the cells, the
    time, and the smallest difference that the seeds can show. A failed cell is told at the end and
    sinks no other; the exit code is 1 then.
    """
    from fedsim.study.load import load_study

    design = load_study(file, changes or ())
    if out is None:
        out = file.absolute().parent if (file / "study.json").is_file() else Path("runs")
    num_workers = number_of(workers)
    if dry_run:
        from fedsim.study.forecast import forecast

        _show_forecast(forecast(design, out=out, device=device, workers=num_workers), as_json)
        return
    from fedsim.study import runner

    with watching_study(quiet, as_json) as watch, _going_on(design, out):
        if pilot is None:
            record = runner.run(design, out=out, device=device, workers=num_workers, watch=watch)
        else:
            record = runner.pilot(
                design, pilot, out=out, device=device, workers=num_workers, watch=watch
            )
    _conclude(record, "final" if pilot is None else "pilot", design.notes(), quiet, as_json)


def validate_study(file: Path, written: Written) -> None:
    """Check a study file and every scenario in it."""
    from fedsim.study.load import design_of

    design = design_of(written)
    cells = design.first_cells()
    num_trials = sum(cell.purpose == "trial" for cell in cells)
    typer.echo(
        f"{file}: valid; digest {design.digest[:10]}\n"
        f"{len(design.study.methods)} methods x {len(design.settings)} settings x "
        f"{len(design.seeds)} seeds: {len(cells) - num_trials} cells to compare, {num_trials} of "
        "tuning"
    )
    for note in design.notes():
        typer.echo(f"note: {note}")


@contextmanager
def _going_on(design: Design, out: Path) -> Iterator[None]:
    """Say how to go on when a study stops early."""
    from fedsim.records.study import is_study
    from fedsim.study.folder import folder_of

    try:
        yield
    except (KeyboardInterrupt, RunError):
        folder = folder_of(design, out)
        if is_study(folder):
            typer.echo(
                "Stopped; finished cells stay, the others go on after their last round. Go on "
                f"with: fedsim study {shlex.quote(str(folder))}",
                err=True,
            )
        raise


def _conclude(
    record: StudyRecord, purpose: str, notes: list[str], quiet: bool, as_json: bool
) -> None:
    """Tell what failed and, last, name the study folder.

    Raises:
        RunError: if a cell failed whose run was wanted.
    """
    failed = [cell for cell in record.cells if cell.status == "failed"]
    if as_json:
        failures = [{"cell": cell.cell, "error": cell.error} for cell in failed]
        sentences = record.comparison["sentences"] if record.comparison else []
        done = {
            "event": "done",
            "study": str(record.folder),
            "notes": notes,
            "failures": failures,
            "sentences": sentences,
        }
        typer.echo(json.dumps(done))
    else:
        for note in () if quiet else notes:
            typer.echo(f"note: {note}")
        if record.comparison and not quiet:
            _show_comparison(record.comparison)
            typer.echo(f"tables and page: {record.folder / 'report' / 'index.html'}")
        for cell in failed:
            typer.echo(f"failed: {cell.cell}: {cell.error}", err=True)
        typer.echo(str(record.folder))
    lost = [cell for cell in failed if cell.purpose == purpose]
    if lost:
        raise RunError(
            f"{len(lost)} of the cells to compare failed; their methods have fewer seeds. The same "
            "command tries again those that might succeed"
        )


def _show_comparison(content: dict[str, Any]) -> None:
    from fedsim.comparison.bounds import within_bounds
    from fedsim.comparison.tables import readable

    typer.echo(readable(within_bounds(content))["comparison"].markdown())
    for sentence in content["sentences"]:
        typer.echo(f"- {sentence}")


def _show_power(found: dict[str, Any] | None) -> None:
    """Say what the seeds can show, and how many the question needs."""
    if found is None or not any(row["detectable"] is not None for row in found["rows"]):
        typer.echo("what the seeds can show: not known before a pilot; try --pilot 3")
        return
    from rich.table import Table

    num, power, most = found["num_seeds"], 100 * found["power"], found["num_comparisons"]
    table = Table(
        *("method", "setting", "sd of differences", "shown from", "seeds needed", "cautiously"),
        title=f"what {num} seeds show with {power:.0f} % power, after correction for "
        f"{most} comparison{'s' * (most != 1)}; seeds for a difference of "
        f"{found['smallest_difference_of_interest']:g}",
        title_justify="left",
    )
    for row in found["rows"]:
        keys = ("sd", "detectable", "seeds_needed", "cautious_seeds_needed")
        values = ["-" if row[key] is None else f"{row[key]:.3g}" for key in keys]
        table.add_row(row["method"], row["setting"], *values)
    console().print(table)


def _show_forecast(found: Forecast, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.as_data(), indent=2))
        return
    from rich.table import Table

    for setting in dict.fromkeys(entry.setting for entry in found.entries):
        columns = ("method", "trials", "there", "to compare", "there", "time left")
        table = Table(*columns, title=setting, title_justify="left")
        for entry in found.entries:
            if entry.setting == setting:
                there = "not known" if entry.finals_there is None else str(entry.finals_there)
                numbers = entry.num_trials, entry.trials_there, entry.num_finals, there
                table.add_row(entry.method, *map(str, numbers), time(entry.seconds))
        console().print(table)
    for note in found.notes:
        typer.echo(f"note: {note}")
    source = "judged by finished cells" if found.measured else "estimated from a probe"
    workers = "one cell at a time" if found.num_workers == 1 else f"{found.num_workers} workers"
    if any(entry.seconds for entry in found.entries):
        typer.echo(f"time left: about {time(found.seconds)} with {workers}, {source}")
    else:
        typer.echo("time left: none, all runs are there")
    _show_power(found.power)
    typer.echo(f"study folder: {found.folder}")
