"""`fedsim audit`: what attacks find out in fact, beside what the ledger allows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from fedsim.cli.progress import counting
from fedsim.cli.quantities import time
from fedsim.cli.streams import console
from fedsim.errors import InputError, RunError

if TYPE_CHECKING:
    from fedsim.records.study import StudyRecord

TESTS = ("mechanism", "one-run", "membership", "inversion")


def audit(
    folder: Annotated[
        Path, typer.Argument(help="run folder, or a study folder", show_default=False)
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            click_type=click.Choice(TESTS),
            show_default=False,
            help="do this test alone; may be repeated. Default: all four",
        ),
    ] = None,
    num_canaries: Annotated[
        int,
        typer.Option(
            "--canaries",
            min=20,
            max=5000,
            help="images, patients, bags or sites that are put in by a coin, in one-run auditing: "
            "more of them can show more, and take longer",
        ),
    ] = 1000,
    num_shadows: Annotated[
        int,
        typer.Option(
            "--shadows",
            min=0,
            max=256,
            help="models trained on other halves of the images for a sharper membership attack "
            "(LiRA), each takes as long as the run: 8 to 16 are enough; 0 does without",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="of the audit's own randomness")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print what is in audit.json")] = False,
) -> None:
    """Attack a finished run, and compare with the epsilon of its ledger; of a study one run each.

    **mechanism**: known inputs go through the training code; is there the noise that the ledger
    says, and the clipping? Seconds. **one-run**: the site with the largest epsilon trains again,
    or canary sites send updates, with canaries put in by coins that are then guessed.
    **membership**: can training images be told from images that could have been? May train the run
    again, on half of the images. **inversion**: a picture of what a server sees of one image, with
    and without noise.

    Writes audit.json into the run folder, and a section of the page that `fedsim report` makes. Of
    a study, one private run of each method and setting is audited; its page shows them together.
    Exit code 1 if an attack finds out more than the ledger allows. What each test can show and what
    it cannot: docs/audit.md.
    """
    from fedsim.audit import session
    from fedsim.audit.subject import Options
    from fedsim.engines.placement import choose_devices
    from fedsim.records.audit import alarms
    from fedsim.records.study import is_study, read_study

    tests: Any = [name for name in TESTS if name in (only or TESTS)]
    options = Options(tests, num_canaries, num_shadows, seed)
    runs = private_runs(read_study(folder)) if is_study(folder) else [folder]
    subjects = [session.subject(run, options, choose_devices(device)[0]) for run in runs]
    each = [session.costs(one) for one in subjects]
    costs = {name: sum(cost[name] for cost in each) for name in each[0]}
    said = ", ".join(f"{name} {time(seconds)}" for name, seconds in costs.items())
    typer.echo(f"takes about {time(sum(costs.values()))}: {said}", err=True)
    raised = []
    for one in subjects:
        with counting("audit") as watch:
            content = session.audit(one, lambda test, done, of: watch(done, of))
        raised += alarms(content)
        if as_json:
            typer.echo(json.dumps(content))
        else:
            show(content)
            typer.echo(str(one.record.folder / "audit.json"))
    if raised:
        raise RunError("ALARM: " + "\nALARM: ".join(raised))


def private_runs(study: StudyRecord) -> list[Path]:
    """Return one finished run of each method and setting that has a ledger, in their order.

    Raises:
        InputError: if there is none.
    """
    from fedsim.records.examples import examples

    runs = {run.folder.resolve(): run for run in examples(study).values() if run.ledger}
    found = [folder for folder, run in runs.items() if run.finished]
    if not found:
        raise InputError(f"{study.folder}: has no finished run that hides anything")
    return found


def show(content: Mapping[str, Any]) -> None:
    """Print what an audit found."""
    from rich.table import Table
    from rich.text import Text

    from fedsim.report.audit import HEADINGS, accounted, cells, remarks, title

    shown = console()
    for sentence in accounted(content):
        shown.print(Text(sentence))
    for name, outcome in content["tests"].items():
        shown.print(Text(f"\n{title(name)}", style="bold"))
        if outcome["findings"]:
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for number, heading in enumerate(HEADINGS):
                table.add_column(heading, justify="right" if number > 1 else "left")
            for finding in outcome["findings"]:
                table.add_row(*map(Text, cells(finding)))
            shown.print(table)
        for remark in remarks(outcome):
            shown.print(Text(remark))
