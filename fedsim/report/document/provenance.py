"""Where numbers come from: machine, versions, data, and what to cite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedsim import citations
from fedsim.environment import differences
from fedsim.report.document.parts import Block, Code, Facts, Section, Table, Text, word

if TYPE_CHECKING:
    from fedsim.records import RunRecord


def environment(records: Sequence[RunRecord]) -> Section:
    """Return on what the first of some runs was executed, what it read, and how others differ."""
    first = records[0]
    changes = {
        change: None
        for other in records[1:]
        for change in differences(first.environment, other.environment)
    }
    blocks: list[Block] = [*_machine(first.environment), *_data(first)]
    if changes:
        blocks.append(Text(f"Other runs differ: {'; '.join(changes)}.", "warning"))
    return Section("environment", "Environment", blocks)


def references(records: Sequence[RunRecord]) -> Section:
    """Return what to cite."""
    entries = citations.of_runs(records)
    keys = [entry.partition("{")[2].partition(",")[0] for entry in entries]
    return Section(
        "citations",
        "What to cite",
        [
            Text("Methods, images and software used here; fedsim cite prints them too."),
            Code(f"BibTeX of {len(keys)} works: {', '.join(keys)}", "\n\n".join(entries)),
        ],
    )


def version(record: RunRecord | None) -> str:
    """Return who made the page."""
    packages = record.environment.get("packages", {}) if record else {}
    return f"fedsim {packages.get('fedsim-medical') or ''}".strip()


def _machine(known: Mapping[str, Any]) -> Iterator[Block]:
    if not known:
        return
    names = ", ".join(known["device_names"])
    yield Facts(
        {
            "Python": f"{known['python']}",
            "Platform": f"{known['platform']}",
            "Processor": f"{known['processor']} ({known['cpu_capability']}), "
            f"{known['num_cpus']} cores, {known['num_threads']} thread for each process",
            "Device": f"{known['device']}" + (f" ({names})" if names else ""),
        }
    )
    versions = {**known["packages"], **known["plugins"]}
    yield Table(
        "Versions",
        ("package", "version"),
        [[word(name), word(number)] for name, number in versions.items() if number],
    )


def _data(record: RunRecord) -> Iterator[Block]:
    population = record.population
    if checksums := population["checksums"]:
        yield Table(
            "Checksums of the data",
            ("what", "checksum"),
            [[word(name), word(value)] for name, value in checksums.items()],
        )
    if licence := population["licence"]:
        yield Text(f"Images: {licence}.")
