"""The worst site of every run, among the same ones for all methods.

All runs of a setting and seed are looked at on the sites that count in every one of them: enough
test images (`evaluation.min_per_class`), so that a worst site is one that does badly, not one with
three images. The worst of several noisy values is lower than the worst of their means, the more
so the noisier they are: compare it only between methods of a similar level, and do not read it as
what one hospital should expect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedsim.comparison.estimates import estimate
from fedsim.comparison.outcomes import Outcome, by_block, common_sites
from fedsim.comparison.primary import Primary


def worst_site(runs: Iterable[Outcome], primary: Primary) -> list[dict[str, Any]]:
    """Return a row per run: the worst of the sites that count; None if any value is undefined."""
    worst_of = min if primary.higher_is_better else max
    rows = []
    for block in by_block(runs).values():
        sites = common_sites(block)
        for run in block:
            found = {site: run.scores.get((site, primary.metric)) for site in sites}
            defined = {site: value for site, value in found.items() if value is not None}
            whole = bool(found) and len(defined) == len(found)
            site = worst_of(defined, key=defined.__getitem__) if whole else None
            rows.append(
                {
                    "setting": run.setting,
                    "method": run.method,
                    "seed": run.seed,
                    "site": site,
                    "value": defined[site] if site is not None else None,
                    "num_sites": len(sites),
                }
            )
    return rows


def worst_site_summary(
    rows: Iterable[Mapping[str, Any]], confidence: float
) -> list[dict[str, Any]]:
    """Return the mean over seeds of the worst site's value, per setting and method."""
    groups: dict[tuple[str, str], list[float | None]] = {}
    for row in rows:
        groups.setdefault((row["setting"], row["method"]), []).append(row["value"])
    return [
        {
            "setting": setting,
            "method": method,
            **found.row(),
        }
        for (setting, method), values in groups.items()
        for found in [estimate(values, confidence)]
    ]
