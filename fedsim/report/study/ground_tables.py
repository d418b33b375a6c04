"""What the answer of a study rests on, as the tables of its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedsim.data import aggregates
from fedsim.records import RunRecord
from fedsim.report.document.parts import Cell, Table, num, word
from fedsim.report.study.looks import titled
from fedsim.report.study.tables import NONE, Comparison, Rows, value


def tuned(comparison: Comparison) -> Table | None:
    """Return what the tuning chose."""
    found = comparison.get("tuned") or ()
    if not found:
        return None
    rows = [
        [
            word(row["method"]),
            word(titled(row["setting"])),
            word(_values(row["values"])),
            value(row["validation_value"]),
            num(row["num_trials"]),
            num(row["num_failed"]),
        ]
        for row in found
    ]
    return Table(
        "Values that tuning chose",
        ("method", "setting", "values", "on validation", "trials", "failed"),
        rows,
        "On seeds of its own, by validation images alone.",
    )


def power(comparison: Comparison) -> Table | None:
    """Return what the seeds can show."""
    found = comparison.get("power") or {}
    if not found.get("rows"):
        return None
    least = found.get("smallest_difference_of_interest")
    rows = [
        [
            word(row["method"]),
            word(titled(row["setting"])),
            num(row["num_pairs"]),
            value(row["sd"]),
            value(row["detectable"]),
            _needed(row["seeds_needed"]),
            _needed(row["cautious_seeds_needed"]),
        ]
        for row in found["rows"]
    ]
    note = (
        f"Seeds: {found['num_seeds']}; comparisons: {found['num_comparisons']}; family-wise level "
        f"{found['alpha']:g}; power {100 * found['power']:.0f} %. An exact test can reject from "
        f"{found['exact_test_seeds']} seeds on."
    )
    if least:
        note += (
            f" Seeds needed: to show a difference of {least:g}; cautiously: from the upper limit "
            "of the spread."
        )
    return Table(
        "What these seeds can show",
        (
            "method",
            "setting",
            "pairs",
            "spread of differences",
            "smallest shown",
            "seeds needed",
            "cautiously",
        ),
        rows,
        note,
    )


def failures(rows: Rows) -> Table | None:
    """Return what failed, and why."""
    if not rows:
        return None
    return Table(
        "Runs that failed or cannot be read",
        ("run", "why"),
        [[word(row["cell"]), word(str(row["error"]))] for row in rows],
    )


def population(recorded: Mapping[str, Any], seed: int) -> Table:
    """Return who holds how many images.

    Args:
        recorded: population of a run.
        seed: of the run.
    """
    rows = [
        [
            word(site["name"]),
            *map(num, site["train"]),
            *(num(sum(site[split])) for split in ("train", "validation", "test")),
        ]
        for site in recorded["sites"]
    ]
    return Table(
        "Images by site",
        ("site", *recorded["class_names"], "training", "validation", "test"),
        rows,
        f"Training images by class, then how many of each kind, with seed {seed}. Where the seed "
        "decides who holds which images, other seeds have others.",
    )


def bags(runs: Mapping[tuple[str, str], RunRecord]) -> Table | None:
    """Return how many bags there are in each setting, and how many of them are pure.

    Args:
        runs: one of each method and setting.
    """
    methods: dict[tuple[str, Any], list[str]] = {}
    for (method, setting), run in runs.items():
        if counts := aggregates.count(run.population["knowledge"]):
            methods.setdefault((setting, counts), []).append(method)
    rows = [
        [
            word(titled(setting)),
            word(", ".join(names)),
            num(counts.num_sites),
            num(counts.num_bags),
            word(counts.size),
            Cell(NONE, None)
            if counts.num_pure is None
            else Cell(f"{counts.num_pure:,} ({counts.pure_percent:.0f} %)", counts.num_pure),
            num(counts.num_validation),
            num(counts.fewest_validation),
        ]
        for (setting, counts), names in methods.items()
    ]
    if not rows:
        return None
    return Table(
        "Bags",
        (
            "setting",
            "methods",
            "sites with bags",
            "training bags",
            "images in each",
            "of one class alone",
            "validation bags",
            "fewest at a site",
        ),
        rows,
        "Of all sites together, in one run of each; other seeds draw other bags. A bag of one "
        "class alone tells every label in it; where noise protects labels, as far as its response "
        "says. Few validation bags choose the best round and tuned values badly.",
    )


def _needed(seeds: int | None) -> Cell:
    return Cell(NONE, None) if seeds is None else num(seeds)


def _values(values: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{key} {_short(v)}" for key, v in (values or {}).items()) or NONE


def _short(found: Any) -> str:
    return f"{found:.4g}" if isinstance(found, float) else f"{found}"
