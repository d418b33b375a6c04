"""The sections of a study's page that say what its answer rests on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from fedsim.report.document import provenance
from fedsim.report.document.alternatives import alternative
from fedsim.report.document.parts import Block, Code, Facts, Section, Table, Text, word
from fedsim.report.document.pictures import drawing, picture
from fedsim.report.document.words import in_words, without_places
from fedsim.report.figures import label_distribution
from fedsim.report.samples import contact_sheet_of
from fedsim.report.study import ground_tables, tables
from fedsim.report.study.subject import Study


def setup(study: Study) -> Section:
    """Return what was to be run."""
    written = without_places(study.record.study)
    methods = Table(
        "Methods",
        ("method", "description", "sets", "tunes"),
        [
            [
                word(name),
                word(said.get("description") or tables.NONE),
                word(_said(said.get("set")) or tables.NONE),
                word(", ".join(said.get("tune") or {}) or tables.NONE),
            ]
            for name, said in written["methods"].items()
        ],
    )
    blocks: list[Block] = [methods]
    if study.examples:
        first = study.examples[0]
        skipped = ("Seed", "Local objective", "Aggregation", "Server optimiser")
        words = in_words(first.scenario, first.population)
        blocks.append(
            Text("The rest, as the first run has it; tuned values differ between methods:")
        )
        blocks.append(Facts({k: v for k, v in words.items() if k not in skipped}))
    text = yaml.safe_dump(written, sort_keys=False, allow_unicode=True)
    return Section("setup", "Set-up", [*blocks, Code("The whole study file (YAML)", text)])


def population(study: Study) -> Section:
    """Return who held which images, in each setting."""
    runs = study.by_setting_alone
    sheets: dict[str, Block] = {
        setting: drawing(sheet, alternative("contact_sheet", run))
        for setting, run in runs.items()
        if (sheet := contact_sheet_of(run)) is not None
    }
    classes: dict[str, Block] = {
        setting: picture(label_distribution(run), alternative("label_distribution", run))
        for setting, run in runs.items()
    }
    counts: dict[str, Block] = {
        setting: ground_tables.population(run.population, run.scenario["seed"])
        for setting, run in runs.items()
    }
    bags = ground_tables.bags(study.by_method_and_setting)
    blocks = [block for tabs in (sheets, classes, counts) for block in study.by_setting(tabs)]
    return Section("population", "Population", [*blocks, *([bags] if bags else [])])


def tuning(study: Study) -> Section:
    """Return what the tuning chose."""
    table = ground_tables.tuned(study.comparison)
    return Section("tuning", "Tuning", [table] if table else [])


def power(study: Study) -> Section:
    """Return what so many seeds can show."""
    table = ground_tables.power(study.comparison)
    return Section("power", "Power", [table] if table else [])


def failures(study: Study) -> Section:
    """Return which runs failed, and why."""
    failed = [
        {"cell": cell.cell, "error": cell.error}
        for cell in study.record.cells
        if cell.status != "done"
    ]
    known = {row["cell"] for row in failed}
    more = [row for row in study.comparison.get("failures", ()) if row["cell"] not in known]
    table = ground_tables.failures([*failed, *more])
    return Section("failures", "Failures", [table] if table else [])


def environment(study: Study) -> Section:
    """Return on what the runs were executed."""
    if not study.examples:
        return Section("environment", "Environment", [])
    return provenance.environment(study.examples)


def citations(study: Study) -> Section:
    """Return what to cite."""
    if not study.examples:
        return Section("citations", "What to cite", [])
    return provenance.references(study.examples)


def repeat(study: Study) -> Section:
    """Return the command that runs the study again."""
    command = f"fedsim study {shlex.quote(study.record.folder.name)}"
    return Section(
        "repeat",
        "Run it again",
        [
            Code(
                "From where the study folder lies; runs that are there are not run again:", command
            ),
            Text("On the same hardware and versions every run gives the same bits.", "note"),
        ],
    )


def _said(values: Mapping[str, Any] | None) -> str:
    return "; ".join(f"{key}: {_plain(value)}" for key, value in (values or {}).items())


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
