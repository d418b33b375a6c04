"""Intervals of means for people to read: they end where their metric does.

Neither Student's t nor what widens a bootstrap of few seeds knows bounds, so that the interval of a
mean near one of them may reach beyond, to where no mean can be. Numbers for programs, differences
and their tests stay as they are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clients.metrics import METRICS

OF_MEANS = ("summary", "worst_site_summary", "yardsticks", "primary_intervals", "subgroups")
"""Parts of a comparison with intervals of means."""
ENDS = ("low", "high")


def within_bounds(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison whose intervals of means hold nothing that their metric cannot be.

    Args:
        comparison: content of `comparison.json`.
    """
    primary = comparison["primary"]["metric"]
    parts = {
        part: [_within(row, row.get("metric", primary)) for row in comparison[part]]
        for part in OF_MEANS
        if part in comparison
    }
    return {**comparison, **parts}


def _within(row: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return a row with the ends of its interval moved to the nearest values that there are.

    The row of no group among those of groups is of the gap between two.
    """
    lowest, highest = METRICS[metric].bounds
    if row.get("group", "") is None:
        lowest, highest = 0.0, highest - lowest
    ends = {end: row[end] for end in ENDS if row[end] is not None}
    return {**row, **{end: min(max(value, lowest), highest) for end, value in ends.items()}}
