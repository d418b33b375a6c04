"""`fedsim plan`: what would run, printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsim import adversaries
from fedsim.cli import opening
from fedsim.cli.assumption import Dimensions, Noise, Signal, assumption
from fedsim.cli.options import File, Set
from fedsim.cli.plan_bags import about_bags
from fedsim.cli.plan_fleet import about_fleet
from fedsim.cli.quantities import scaled, time
from fedsim.cli.streams import console
from fedsim.data import aggregates

if TYPE_CHECKING:
    from fedsim.data.population import Population
    from fedsim.plan import Plan
    from fedsim.privacy.balance import Balance

SITES_SHOWN = 40
LOOKS_SHOWN = 6
SPLITS_WIDTH = len("  train  validation  test")


def plan(
    file: File,
    changes: Set = None,
    out: Annotated[Path, typer.Option(help="folder for run folders")] = Path("runs"),
    run_name: Annotated[
        str | None, typer.Option(help="name of the run folder; default: scenario and digest")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    signal: Signal = None,
    noise: Noise = None,
    num_dimensions: Dimensions = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Show what a scenario would do, without training: sites, network, traffic, time, problems.

    Tries out what could fail later. Takes a few seconds; writes nothing.
    """
    assumed = assumption(signal, noise, num_dimensions)
    draft = opening.read(file, changes)
    scenario = draft.scenario()
    population = opening.sites(file, draft, scenario)
    from fedsim import plan as planning

    found = planning.make(
        scenario, population, out=out, name=run_name, device=device, assumed=assumed
    )
    if as_json:
        typer.echo(json.dumps(found.as_data()))
    else:
        _show(found, population)
    if found.problems:
        raise planning.refusal(found.problems)


def print_sites(population: Population) -> None:
    """Print who holds how many images of which class, and how sites draw theirs if they do."""
    from rich.table import Table
    from rich.text import Text

    from fedsim.data import drawn_sites

    if drawn := drawn_sites.describe(population):
        typer.echo(f"{drawn_sites.text(drawn)}\n")
    shown = console()
    rows = population.table()
    names, longest = population.class_names, max(map(len, (row["name"] for row in rows)))
    numbered = longest + sum(len(name) + 2 for name in names) + SPLITS_WIDTH > shown.width
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("site")
    classes = map(str, range(len(names))) if numbered else names
    for heading in (*classes, "train", "validation", "test"):
        table.add_column(Text(heading), justify="right")
    for row in rows[:SITES_SHOWN]:
        table.add_row(Text(row["name"]), *_counts(row))
    if len(rows) > SITES_SHOWN:
        table.add_row(f"... {len(rows) - SITES_SHOWN} more")
    splits = ("train", "validation", "test")
    if len(rows) > 1:
        table.add_row("all", *_counts({s: _sum([row[s] for row in rows]) for s in splits}))
    for part in population.external_table():
        empty = [""] * (len(names) + 2)
        name = f"{part['name']} (never trains)"
        table.add_row(Text(name), *empty, str(sum(part["test"])))
    shown.print("Training images by class, and all images by split")
    shown.print(table)
    if numbered:
        typer.echo("classes: " + ", ".join(f"{n} {name}" for n, name in enumerate(names)))


def _counts(row: dict[str, Any]) -> list[str]:
    sizes = (sum(row[split]) for split in ("train", "validation", "test"))
    return [*map(str, row["train"]), *map(str, sizes)]


def _sum(counts: list[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]


def _show(found: Plan, population: Population) -> None:
    typer.echo(f"{found.name} {found.digest[:10]} -> {found.folder}\n")
    print_sites(population)
    typer.echo("")
    about = {**_about_images(found), **_about_training(found)}
    if found.fleet is not None:
        about |= about_fleet(found.fleet)
    for entry, advice in found.bag_sizes.items():
        about |= {
            title if len(found.bag_sizes) == 1 else f"{title} {entry}": text
            for title, text in about_bags(advice).items()
        }
    for title, text in about.items():
        if text:
            typer.echo(f"{title + ':':14}{text}")
    if found.privacy is not None:
        from fedsim.cli.balance_sheet import print_balance

        typer.echo("")
        print_balance(found.privacy)
        _say_who_stops(found.privacy, found.budget)


def _say_who_stops(found: Balance, budget: float | None) -> None:
    """Say which sites' budgets do not reach to the last round."""
    if budget is None:
        return
    from fedsim.privacy.balance_words import named

    over = [one.site for one in found.accounts if one.unit != "label" and one.epsilon > budget]
    between = [one for one in found.shared if one.epsilon > budget]
    if over:
        typer.echo(
            f"Budget: epsilon {budget:g} is less than all rounds cost {named(over)}, which is what "
            "the table has; before the release that would overspend it they stop (on_budget)."
        )
    if between:
        num = sum(one.num_patients for one in between)
        typer.echo(
            f"Budget: epsilon {budget:g} is less than all rounds cost {num} patients at several "
            "sites; before the round in which these sites together would overspend it they stop "
            "(on_budget). With noise_multiplier: auto they reach the last round."
        )


def _about_images(found: Plan) -> dict[str, str]:
    channels, height, width = found.images
    duplicates = found.duplicates.text() if found.duplicates else "not all images can be read"
    looks = [
        f"{site} ({', '.join(f'{key} {_short(value)}' for key, value in look.items())})"
        for site, look in list(found.looks.items())[:LOOKS_SHOWN]
    ]
    if len(found.looks) > LOOKS_SHOWN:
        looks.append(f"{len(found.looks) - LOOKS_SHOWN} more sites")
    return {
        "images": f"{found.source}, {channels} x {height} x {width}, "
        f"{scaled(found.memory, 'B')} in memory; licence: {found.licence or 'not stated'}",
        "patients": "not known" if found.num_patients is None else str(found.num_patients),
        "duplicates": duplicates,
        "wrong labels": ", ".join(f"{name} {num}" for name, num in found.num_mislabelled.items()),
        "labels": aggregates.text(found.knowledge, found.num_sites),
        "truncation": aggregates.truncation(found.knowledge),
        "attack": adversaries.text(found.adversaries, found.num_sites),
        "appearance": f"\n{'':14}".join(looks),
    }


def _about_training(found: Plan) -> dict[str, str]:
    fewest, most = found.steps
    steps = f"{fewest} to {most}" if fewest < most else str(most)
    network = f"{found.parameters:,} parameters, {found.buffers:,} other numbers"
    if found.probe is not None:
        network += (
            f"; per image {scaled(found.probe.forward_flops, 'FLOP')} forwards, "
            f"{scaled(found.probe.training_flops, 'FLOP')} in training"
        )
    return {
        "network": network,
        "weights": found.weights or "",
        "a round": f"{found.cohort:g} of {found.num_sites:,} sites, {steps} steps each, "
        + _traffic(found, rounds=1),
        "whole run": f"{found.rounds} rounds, {_traffic(found, found.rounds)}",
        "time": _about_time(found),
    }


def _traffic(found: Plan, rounds: int) -> str:
    down, up = rounds * found.bytes_down, rounds * found.bytes_up
    return f"{scaled(down, 'B')} down, {scaled(up, 'B')} up"


def _about_time(found: Plan) -> str:
    if found.seconds is None or found.seconds_round is None or found.seconds_evaluation is None:
        return "unknown, as the network could not be tried"
    return (
        f"about {time(found.seconds)} ({time(found.seconds_round)} a round, "
        f"{time(found.seconds_evaluation)} an evaluation), estimated on this computer, one "
        f"process, {found.device}; without loss decomposition and intervals"
    )


def _short(value: Any) -> str:
    """Return a parameter with as many digits as people read."""
    if isinstance(value, list | tuple):
        return "/".join(map(_short, value))
    return f"{value:.2g}" if isinstance(value, float) else str(value)
