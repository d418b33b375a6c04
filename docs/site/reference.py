"""The reference, made from the models, the command line and the docstrings: it cannot drift."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator
from functools import cache

import click
import typer

import fedsim
from clients.metrics import METRICS
from fedsim import markdown
from fedsim.cli import app
from fedsim.cli.catalogue import USES, described, sections
from fedsim.fleet.catalogue import CATALOGUE
from fedsim.plugins import kind_of
from fedsim.scenario import expectation
from fedsim.scenario.expectation import Expectation
from fedsim.scenario.families import FAMILIES
from fedsim.study import study_file

CONTRACTS = (
    "strategies.base.Strategy",
    "strategies.server_optimizer.ServerOptimizer",
    "clients.objectives.base.Objective",
    "clients.objectives.base.Context",
    "clients.regularisers.base.Regulariser",
    "clients.personalisation.base.Personalisation",
    "fedsim.data.source.Source",
    "fedsim.data.source.Facts",
    "fedsim.data.source.Dataset",
    "fedsim.data.partition.Partition",
    "fedsim.data.appearance.Appearance",
    "fedsim.models.base.Model",
    "fedsim.seeds.Streams",
)
"""What one builds upon."""


@cache
def pages() -> dict[str, str]:
    """Return the text of every page of the reference by its place in the site."""
    return {
        "reference/scenario.md": "\n\n".join(_scenario()),
        "reference/parts.md": "\n\n".join(_parts()),
        "reference/study.md": "\n\n".join(_study()),
        "reference/commands.md": "\n\n".join(_commands()),
        "reference/run_folder.md": "\n\n".join(_run_folder()),
        "reference/python.md": "\n\n".join(_python()),
        "reference/contracts.md": "\n\n".join(_contracts()),
    }


def _scenario() -> Iterator[str]:
    yield "# Scenario files"
    yield (
        "Every key of a scenario, from the models that read it. Where a key takes a section with "
        "`kind`, [Parts](parts.md) has the kinds and their keys. `fedsim list NAME` prints the "
        "same, for the version that is installed and its plug-ins."
    )
    definitions = expectation.of(fedsim.Scenario).definitions
    for name, (path, section) in sections().items():
        yield f"## {f'`{path}`' if path else 'The whole file'}"
        expected = Expectation(section, definitions)
        yield from _section(expected, section["properties"], path, name)


def _section(expected: Expectation, keys: Iterable[str], path: str, name: str) -> Iterator[str]:
    yield _prose(expected.schema.get("description", name))
    rows = [
        [f"`{key.name}`", key.takes, key.default.removeprefix("default "), key.meaning]
        for key in described(expected, keys, path)
    ]
    if rows:
        yield _table(["key", "takes", "default", "meaning"], rows)


def _parts() -> Iterator[str]:
    yield "# Parts"
    yield (
        "What a scenario chooses by `kind`, family by family. Other packages bring more: "
        "[Add your own](../extending.md)."
    )
    for family, (key, purpose) in USES.items():
        yield f"## {family}"
        yield f"`{key}`: {purpose}."
        if family == "metrics":
            yield _table(["metric", "is", "better", "for"], list(_metrics()))
        for part in FAMILIES.get(family, ()):
            yield f"### `{kind_of(part)}`"
            expected = expectation.of(part)
            keys = [name for name in expected.keys({}) if name != "kind"]
            yield from _section(expected, keys, key, kind_of(part))
            if reference := getattr(part, "reference", ""):
                yield markdown.fenced(reference, "bibtex")
    yield "## Device profiles"
    yield "`population.devices.profile`: by name, or the numbers of your own device."
    yield _table(
        ["name", "fp32 Tflop/s", "bf16", "fp16", "memory, GB", "GB/s"],
        [
            [
                f"`{name}`",
                *(_number(n) for n in (p.fp32_tflops, p.bf16_tflops, p.fp16_tflops)),
                _number(p.memory_gb),
                _number(p.memory_gb_per_s),
            ]
            for name, p in CATALOGUE.items()
        ],
    )


def _metrics() -> Iterator[list[str]]:
    for name, metric in METRICS.items():
        better = "higher" if metric.higher_is_better else "lower"
        yield [f"`{name}`", metric.title, better, ", ".join(metric.tasks)]


def _study() -> Iterator[str]:
    yield "# Study files"
    yield "Every key of a study; what they are for: [Comparing methods](../studies.md)."
    for title, model in (
        ("The whole file", study_file.Study),
        ("`primary`", study_file.Primary),
        ("`methods`: each", study_file.Method),
        ("`tune`", study_file.Tuning),
        ("A range that is searched", study_file.Range),
    ):
        yield f"## {title}"
        expected = expectation.of(model)
        yield from _section(expected, expected.keys({}), "", model.__name__)


def _commands() -> Iterator[str]:
    yield "# Command line"
    root = typer.main.get_command(app)
    yield _help(root)
    yield from _below(root, "fedsim")


def _below(group: click.Command, path: str) -> Iterator[str]:
    assert isinstance(group, click.Group)
    for name, command in group.commands.items():
        yield f"## `{path} {name}`"
        yield _help(command)
        if isinstance(command, click.Group):
            yield from _below(command, f"{path} {name}")
            continue
        context = click.Context(command, info_name=f"{path} {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        yield markdown.fenced(f"{path} {name} {usage}", "text")
        yield _table(["", "takes", "meaning"], list(_options(command, context)))


def _options(command: click.Command, context: click.Context) -> Iterator[list[str]]:
    for parameter in command.get_params(context):
        found = parameter.get_help_record(context)
        if found is None:
            continue
        meaning = found[1].replace("\\[", "[")  # typer escapes them for rich
        if isinstance(parameter, click.Option):
            flags = ", ".join(f"`{flag}`" for flag in parameter.opts)
            takes = "" if parameter.is_flag else parameter.make_metavar(context)
            yield [flags, takes, meaning]
        else:
            yield [f"`{parameter.make_metavar(context)}`", "", meaning]


def _help(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "")


def _run_folder() -> Iterator[str]:
    yield "# Run folder"
    for module in ("fedsim.records", "fedsim.records.study"):
        yield f"## {module}"
        yield markdown.fenced(inspect.getdoc(importlib.import_module(module)) or "", "text")


def _python() -> Iterator[str]:
    yield "# Python"
    yield "What `import fedsim` offers."
    for name, (module, attribute) in fedsim._EXPORTS.items():
        place = getattr(importlib.import_module(module), attribute).__module__
        heading = f"heading: fedsim.{name}\n      toc_label: {name}"
        yield f"::: {place}.{attribute}\n    options:\n      {heading}"


def _contracts() -> Iterator[str]:
    yield "# Contracts"
    yield "What parts of your own are made of; [Add your own](../extending.md) builds three."
    yield from (f"::: {name}" for name in CONTRACTS)


def _prose(docstring: str) -> str:
    """Return a docstring without its list of arguments, which the table has."""
    parts = docstring.partition("\n\nArgs:\n")[0].split("\n\n")
    return "\n\n".join(
        markdown.fenced(part, "pycon")
        if part.startswith(">>>")
        else markdown.harmless(part).replace("*", r"\*")
        for part in parts
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _table(headings: list[str], rows: list[list[str]]) -> str:
    return markdown.table(headings, rows).replace(r"\`", "`")
