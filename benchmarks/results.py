"""Where races write what they measured: one section each in `RESULTS.md`.

A race that is run again replaces its section. Scripts of races take `--results FILE`, so that a
trial does not touch what stands.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedsim import environment

RESULTS = Path(__file__).parent / "RESULTS.md"
TITLE = "# Measured\n\nEach table is written by the command above it.\n"
MARK = "\n## "


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser of a race's arguments, described by the first line of its docstring."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that gets the table")
    return parser


def write(
    file: Path,
    race: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    note: str,
    also: Sequence[str] = (),
) -> None:
    """Put a race's table into a file and print it.

    Args:
        file: gets the section, in place of an older one of the same race.
        race: title of the section.
        columns: titles of the columns.
        rows: cells, as many as columns.
        note: what was measured how.
        also: versions of the other side, such as `pfl 0.6.0`.
    """
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    command = " ".join(["python", Path(sys.argv[0]).name, *_options()])
    body = f"`{command}`, {datetime.now(UTC):%Y-%m-%d}\n\n{note}\n\n{machine(also)}\n\n{table}\n"
    head, *sections = file.read_text(encoding="utf-8").split(MARK) if file.exists() else [TITLE]
    titled = {section.partition("\n")[0]: section for section in sections}
    titled[race] = f"{race}\n\n{body}"
    file.write_text(MARK.join([head, *titled.values()]), encoding="utf-8")
    print(f"{race}\n{note}\n{table}")


def machine(also: Sequence[str] = ()) -> str:
    """Return the hardware and the versions that matter, in a line."""
    facts: dict[str, Any] = environment.describe(["cpu"])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = [f"{name} {facts['packages'][name]}" for name in ("torch", "flwr", "numpy")]
    versions = ", ".join([f"Python {facts['python']}", *packages, *also])
    return (
        f"{facts['processor']} ({facts['cpu_capability']}), {facts['num_cpus']} cores, "
        f"{memory:.0f} GiB; {versions}."
    )


def _options() -> list[str]:
    """Return the arguments of the command without the file of results."""
    given = sys.argv[1:]
    if "--results" in given:
        at = given.index("--results")
        given = given[:at] + given[at + 2 :]
    return given
