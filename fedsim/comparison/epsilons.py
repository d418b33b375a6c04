"""What the runs of each method spend: epsilon, site by site, by their ledgers.

It is that of one run with the values that it has. That several values were tried on the same
images, and that several seeds are looked at, would compose; neither is accounted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fedsim.comparison.outcomes import Outcome


def epsilons(runs: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return a row per run, site and kind of unit; none of runs that are to hide nothing."""
    return [
        {
            "setting": run.setting,
            "method": run.method,
            "seed": run.seed,
            "site": account.site,
            "unit": account.unit,
            "num_units": account.num_units,
            "delta": account.delta,
            "epsilon": account.epsilon if math.isfinite(account.epsilon) else None,
        }
        for run in runs
        for account in run.accounts
    ]


def epsilon_summary(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the smallest and the largest epsilon of any site and seed, by method and unit.

    The largest is what the method promises: that of the federation in its most expensive run.

    Args:
        rows: of `epsilons`.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["setting"], row["method"], row["unit"]), []).append(row)
    found = []
    for (setting, method, unit), own in groups.items():
        spent = [math.inf if row["epsilon"] is None else row["epsilon"] for row in own]
        ends = [end if math.isfinite(end) else None for end in (min(spent), max(spent))]
        found.append(
            {
                "setting": setting,
                "method": method,
                "unit": unit,
                "num_seeds": len({row["seed"] for row in own}),
                "delta": max(row["delta"] for row in own),
                "lowest": ends[0],
                "highest": ends[1],
            }
        )
    return found
