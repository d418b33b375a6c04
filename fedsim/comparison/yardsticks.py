"""Yardsticks: pooled training, and each site alone, with and without privacy.

Those of a setting and seed are the reference's run's, or the first method's whose run has them, so
that all methods are held against the same ones. They have that method's objective, optimiser and
number of steps. Where it trains with DP-SGD, each site alone does so too and for the same epsilon;
pooled training never does. Where methods of both kinds have it, there are two models of each site
alone: one for the epsilon of the federation, which says who makes more of an epsilon, and one
without privacy, which is what a hospital has that stays alone and releases nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite
from typing import Any

from fedsim.comparison.estimates import estimate, whole_mean
from fedsim.comparison.outcomes import Outcome, by_block, common_sites
from fedsim.comparison.primary import Primary
from fedsim.data.source import POOLED

WITH_DP_SGD = ("example", "patient", "bag")
"""Units that are hidden while a site trains, alone or not."""
SAME_PRICE = 1.05
"""Epsilons are the same up to this factor: noise multipliers come in steps."""
ALONE = "alone"
Block = tuple[str, int]
"""Setting and seed."""
Bars = Mapping[Block, Sequence[Outcome]]
"""The runs whose yardsticks count, by setting and seed."""


def with_yardsticks(runs: Iterable[Outcome], primary: Primary) -> dict[Block, list[Outcome]]:
    """Return for each setting and seed the runs whose yardsticks count, where there are any.

    At most one that hides something while sites train, and one that does not.
    """
    found: dict[Block, list[Outcome]] = {}
    for block, own in by_block(runs).items():
        first: dict[bool, Outcome] = {}
        for run in sorted(own, key=lambda run: run.method != primary.reference):
            if run.yardsticks:
                first.setdefault(is_private(run), run)
        if first:
            found[block] = list(first.values())
    return found


def is_private(run: Outcome) -> bool:
    """Whether a site that trains as in this run, alone or not, promises anything."""
    return isfinite(_epsilon(run))


def costs_no_more(run: Outcome, alone: Outcome) -> bool:
    """Whether a run promises as much as a site that trains alone does, or more.

    One that promises less wins by its price, and is not held against that site.
    """
    return _epsilon(run) <= SAME_PRICE * _epsilon(alone)


def bar(having: Sequence[Outcome], kind: str, *, private: bool | None = None) -> Outcome | None:
    """Return the first run that has a kind of yardstick, None if none has.

    Args:
        having: of one setting and seed.
        kind: "pooled" or "local".
        private: whether it is to promise anything; None for either.
    """
    for run in having:
        if private in (None, is_private(run)) and any(k == kind for k, _, _ in run.yardsticks):
            return run
    return None


def yardsticks(
    runs: Iterable[Outcome], bars: Bars, metrics: Sequence[str], primary: Primary
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
        having = [found for (where, _), found in bars.items() if where == setting]
        for kind, private in (("pooled", None), ("local", True), ("local", False)):
            own = [run for found in having if (run := bar(found, kind, private=private))]
            for metric in metrics if own else ():
                values = (
                    whole_mean([run.yardsticks.get((kind, at, metric)) for at in sites[run.block]])
                    for run in own
                )
                found = estimate(values, primary.confidence)
                if found.num:
                    front = {"setting": setting, "yardstick": kind, "metric": metric}
                    rows.append({**front, **found.row(), **training(own[0], bool(private))})
    return rows


def training(run: Outcome, private: bool) -> dict[str, str | None]:
    """Return whose objective and optimiser a yardstick has, and whose epsilon it spends."""
    return {"trained_as": run.method, "paid_as": run.method if private else None}


def called(row: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """Return how the model is called that a site trains alone.

    Args:
        row: of the sections `yardsticks` or `join`.
        comparison: of `comparison.json`; without private methods there is but one way to be alone.
    """
    if row.get("trained_as") is None or not comparison.get("epsilon_summary"):
        return ALONE
    if row["paid_as"] is None:
        return f"{ALONE} without privacy (as {row['trained_as']} trains)"
    return f"{ALONE} for {row['paid_as']}'s epsilon"


def title_of(row: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """Return what a row of the section `yardsticks` is of."""
    if row["yardstick"] == "pooled":
        return "pooled training"
    return f"each site {called(row, comparison)}"


def _epsilon(run: Outcome) -> float:
    """Return the largest epsilon of what is hidden while sites train, infinite for nothing."""
    return max((a.epsilon for a in run.accounts if a.unit in WITH_DP_SGD), default=inf)
