"""Yardsticks: pooled training, and each site alone.

Those of a setting and seed are the reference's run's, or the first method's whose run has them, so
that all methods are held against the same ones. They have that method's objective, optimiser and
number of steps. Where it trains with DP-SGD, each site alone does so too and for the same epsilon;
pooled training never does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedsim.comparison.estimates import estimate, whole_mean
from fedsim.comparison.outcomes import Outcome, by_block, common_sites
from fedsim.comparison.primary import Primary
from fedsim.data.source import POOLED

KINDS = ("pooled", "local")
WITH_DP_SGD = ("example", "patient", "bag")
"""Units that are hidden while a site trains, alone or not."""
Block = tuple[str, int]
"""Setting and seed."""


def with_yardsticks(runs: Iterable[Outcome], primary: Primary) -> dict[Block, Outcome]:
    """Return for each setting and seed the run whose yardsticks count, where there is one."""
    return {
        block: having[0]
        for block, found in by_block(runs).items()
        if (
            having := sorted(
                (run for run in found if run.yardsticks),
                key=lambda run: run.method != primary.reference,
            )
        )
    }


def yardsticks(
    runs: Iterable[Outcome],
    bars: Mapping[Block, Outcome],
    metrics: Sequence[str],
    primary: Primary,
) -> list[dict[str, Any]]:
    """Return mean and interval over seeds of each yardstick, on the images that methods meet.

    Args:
        runs: all of them.
        bars: of `with_yardsticks`.
        metrics: names.
        primary: says on the images of all sites together or as a mean over sites, and the
            confidence.
    """
    sites = {
        block: (POOLED,) if primary.pooled else common_sites(found)
        for block, found in by_block(runs).items()
    }
    rows: list[dict[str, Any]] = []
    for setting in dict.fromkeys(setting for setting, _ in bars):
        own = [run for (where, _), run in bars.items() if where == setting]
        for kind in KINDS:
            paid_as = _pays(own[0]) if kind == "local" else None
            for metric in metrics:
                values = (
                    whole_mean([run.yardsticks.get((kind, at, metric)) for at in sites[run.block]])
                    for run in own
                )
                found = estimate(values, primary.confidence)
                if found.num:
                    front = {"setting": setting, "yardstick": kind, "metric": metric}
                    rows.append({**front, **found.row(), "paid_as": paid_as})
    return rows


def _pays(run: Outcome) -> str | None:
    """Return the method at whose price each site trains alone, None if for nothing."""
    private = any(account.unit in WITH_DP_SGD for account in run.accounts)
    return run.method if private else None
