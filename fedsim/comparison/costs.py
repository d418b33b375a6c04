"""What it takes: rounds, simulated seconds and bytes to a target, and the traffic of a whole run.

A run reaches the target in the first evaluated round whose value on pooled validation images is at
least as good. One that never does is censored: it has no time, and counts in the median as later
than all others. The median is therefore undefined where half of the runs or more are censored, and
a mean is not given at all.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from math import inf, isfinite
from typing import Any

from fedsim.comparison.estimates import estimate
from fedsim.comparison.outcomes import Outcome, Step
from fedsim.comparison.primary import Primary

COSTS = ("rounds", "virtual_s", "bytes")


def time_to_target(runs: Iterable[Outcome], primary: Primary) -> list[dict[str, Any]]:
    """Return a row per run; empty without a target."""
    if primary.target is None:
        return []
    return [
        {
            "setting": run.setting,
            "method": run.method,
            "seed": run.seed,
            "rounds": step.round if step else None,
            "virtual_s": step.virtual_s if step else None,
            "bytes": step.num_bytes if step else None,
        }
        for run in runs
        for step in [_first(run.steps, primary.target, primary.higher_is_better)]
    ]


def time_summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each setting and method how many runs reached the target, and medians.

    Args:
        rows: of `time_to_target`.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["setting"], row["method"]), []).append(row)
    return [
        {
            "setting": setting,
            "method": method,
            "num_reached": sum(row["rounds"] is not None for row in found),
            "num_seeds": len(found),
            **{f"median_{cost}": _median([row[cost] for row in found]) for cost in COSTS},
        }
        for (setting, method), found in groups.items()
    ]


def traffic(runs: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return the mean over seeds of what a whole run sends, per setting and method."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for run in runs:
        groups.setdefault((run.setting, run.method), []).append(run)
    return [
        {
            "setting": setting,
            "method": method,
            "bytes_down": estimate([run.bytes_down for run in found]).mean,
            "bytes_up": estimate([run.bytes_up for run in found]).mean,
        }
        for (setting, method), found in groups.items()
    ]


def _first(steps: Iterable[Step], target: float, higher_is_better: bool) -> Step | None:
    for step in steps:
        if step.value is not None and (
            step.value >= target if higher_is_better else step.value <= target
        ):
            return step
    return None


def _median(found: Sequence[float | None]) -> float | None:
    """Return the median, censored values above all others; None if it is among those."""
    median = statistics.median(inf if value is None else value for value in found)
    return median if isfinite(median) else None
