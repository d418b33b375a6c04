"""`fedsim data`: what images there are, get them, look at them, write them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from fedsim.cli import completion, opening
from fedsim.cli.options import File, Set
from fedsim.cli.progress import counting
from fedsim.cli.streams import console
from fedsim.errors import InputError

if TYPE_CHECKING:
    from fedsim.data.population import Population

PREVIEW_SIZE = 128
"""Pixels of pictures that no scenario brings to another size."""

data = typer.Typer(
    no_args_is_help=True,
    help="What images there are; get them, look at them, write them out as files.",
)


@data.command("list")
def list_() -> None:
    """List the data sets that have a name, and the other ways to bring images."""
    from rich.table import Table

    from fedsim.data.medmnist import MedMnist
    from fedsim.data.medmnist_registry import REGISTRY

    headings = ("name", "train", "validation", "test", "classes", "channels", "licence", "here")
    table = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, entry in REGISTRY.items():
        finding = "any" if entry.multi_label else None
        here = MedMnist.model_validate({"name": name, "finding": finding}).is_local()
        table.add_row(
            name,
            *map(str, entry.num_examples),
            str(len(entry.class_names)),
            str(entry.num_channels),
            entry.licence,
            "yes" if here else "no",
        )
    console(100).print(table)
    typer.echo(
        "\nMedMNIST has 28, 64, 128 and 224 pixels; here: 28. `fedsim data fetch NAME` gets a set;"
        "\na scenario names it as {kind: medmnist, name: NAME}. Other kinds of source:\n"
        "  synthetic  chest films and fundus photographs, drawn by fedsim, nothing to get\n"
        "  images     your pictures: a CSV manifest, or folders by site, split and class\n"
        "  npz        your arrays in an npz file\n"
        "`fedsim list KIND` shows the keys of each."
    )


@data.command()
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            help="sets, as `fedsim data list` names them", autocompletion=completion.sets
        ),
    ],
    image_size: Annotated[
        str, typer.Option(click_type=click.Choice(["28", "64", "128", "224"]), help="pixels")
    ] = "28",
) -> None:
    """Download data sets into the cache and verify them; what is here is only verified."""
    from fedsim.data.medmnist import MedMnist
    from fedsim.data.medmnist_registry import REGISTRY
    from fedsim.scenario.messages import nearest
    from fedsim.seeds import Streams

    for name in names:
        if name not in REGISTRY:
            raise InputError(f"there is no set {name!r}{nearest(name, REGISTRY)}")
    for name in names:
        finding = "any" if REGISTRY[name].multi_label else None
        options = {"name": name, "image_size": int(image_size), "finding": finding}
        source = MedMnist.model_validate(options)
        here = source.is_local()
        typer.echo(f"{source.file}: {'is here' if here else 'downloading'}", err=True)
        if not here:
            source.fetch()
        (checksum,) = source.open(Streams(0)).checksums.values()
        typer.echo(f"{source.local()} {checksum}")


@data.command()
def preview(
    file: Annotated[
        Path,
        typer.Argument(help="scenario (YAML), CSV manifest, folder of pictures, or arrays (npz)"),
    ],
    changes: Set = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG file; default: NAME-preview.png", show_default=False)
    ] = None,
    per_class: Annotated[
        int, typer.Option(min=1, max=20, help="images of each class at each site")
    ] = 4,
    split: Annotated[
        str, typer.Option(click_type=click.Choice(["train", "validation", "test"]))
    ] = "train",
    force: Annotated[bool, typer.Option("--force", help="replace an existing file")] = False,
) -> None:
    """Draw a contact sheet by site and class, count the images, and look for duplicates."""
    name, population = _opened(file, changes)
    target = out or Path(f"{file.stem or 'images'}-preview.png")
    if target.is_dir() or (target.exists() and not force):
        raise InputError(f"{target}: exists; name another file with --out, or add --force")
    kind: Any = split
    if not any(any(row[kind]) for row in population.table()):
        raise InputError(f"{file}: no site has a {split} image; choose another --split")
    from fedsim.cli.plan_command import print_sites
    from fedsim.data.duplicates import look_at
    from fedsim.records.files import write_bytes
    from fedsim.report import canvas
    from fedsim.report.contact_sheet import contact_sheet, labelled

    if not labelled(population, kind):
        raise InputError(
            f"{file}: no site knows labels by which its {split} images could be sorted: "
            "look at them with --set 'population.supervision=[]'"
        )
    sheet = canvas.encode(contact_sheet(population, kind, per_class, name), "png")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, sheet)
    print_sites(population)
    typer.echo(look_at(population)[1].text())
    typer.echo(str(target))


@data.command()
def unpack(
    file: File,
    folder: Annotated[Path, typer.Argument(help="to be made")],
    changes: Set = None,
) -> None:
    """Write the images of a scenario's sites as PNG files, with a CSV manifest that lists them.

    The pictures are what the sites hold: after the shift of their scanners, before normalisation.
    Held-out sites and other external sets are left out.
    """
    from fedsim.data.unpacking import MANIFEST, unpack

    _, population = _opened(file, changes)
    with counting("writing images") as count:
        unpack(population, folder, count)
    typer.echo(str(folder / MANIFEST))


def _opened(file: Path, changes: list[str] | None) -> tuple[str, Population]:
    """Return a name and the sites of a scenario, or of pictures or arrays as they are."""
    from fedsim.data.recognition import is_data

    if is_data(file):
        if changes:
            raise InputError(f"{file}: --set changes a scenario, and this is none; leave it out")
        return file.name, _as_it_is(file)
    draft = opening.read(file, changes)
    scenario = draft.scenario()
    return scenario.name, opening.sites(file, draft, scenario)


def _as_it_is(path: Path) -> Population:
    """Return the sites of a manifest, a folder of pictures or an npz file."""
    from fedsim.data import names
    from fedsim.data.divided_sites import form
    from fedsim.data.normalisation import Unit
    from fedsim.data.partition import ByColumn, Iid
    from fedsim.data.recognition import source_of
    from fedsim.data.source import SITE, SPLITS
    from fedsim.seeds import Streams

    source = source_of(path, image_size=PREVIEW_SIZE, num_channels=3)
    facts = source.facts()
    named = SITE in facts.columns
    return form(
        source.open(Streams(0)),
        class_names=facts.class_names,
        label_map=None,
        names=names.checked(facts.columns[SITE], SITE) if named else ("all images",),
        partition=ByColumn() if named else Iid(min_examples=1),
        shares={split: 0.0 for split in SPLITS[1:] if split not in facts.num_examples},
        normalisation=Unit(),
        streams=Streams(0),
    )
