"""A run's metrics, ready to be looked up: what tables and figures both read.

An undefined value (AUROC where only one class is present, a loss that is not finite) is None here
and stays None: it is left out of means and lines and named in print, never taken for zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clients.metrics import METRICS

if TYPE_CHECKING:
    from fedsim.records import RunRecord


@dataclass(frozen=True)
class Score:
    """One metric on one split of one site (or of all sites pooled) after one round."""

    value: float | None
    num_examples: int
    num_valid: int


@dataclass(frozen=True)
class Scores:
    """All scores of a run.

    Args:
        metrics: names as the scenario asks for them, then others in the order of the record.
        sites: names in site order.
        rounds: evaluated rounds, ascending; 0 is the initial evaluation.
        table: scores by (round, split, site or `records.read.POOLED`, metric).
    """

    metrics: tuple[str, ...]
    sites: tuple[str, ...]
    rounds: tuple[int, ...]
    table: dict[tuple[int, str, str, str], Score]

    @classmethod
    def of(cls, record: RunRecord) -> Scores:
        """Index the metrics of `record`."""
        asked, found = record.scenario["evaluation"]["metrics"], record.metrics
        return cls(
            metrics=tuple(dict.fromkeys([*asked, *(row["metric"] for row in found)])),
            sites=tuple(site["name"] for site in record.population["sites"]),
            rounds=tuple(sorted({row["round"] for row in record.metrics})),
            table={
                (row["round"], row["split"], row["site"], row["metric"]): Score(
                    finite(row["value"]), row["num_examples"], row["num_valid"]
                )
                for row in record.metrics
            },
        )

    def at(self, round: int, split: str, site: str, metric: str) -> Score:
        """Return one score; one that was not recorded is undefined, on no examples."""
        return self.table.get((round, split, site, metric), Score(None, 0, 0))

    def defined(self, round: int, split: str, metric: str) -> dict[str, float]:
        """Return the sites' defined values by name, in site order."""
        values = {site: self.at(round, split, site, metric).value for site in self.sites}
        return {site: value for site, value in values.items() if value is not None}


def finite(value: float | None) -> float | None:
    """Return `value`, or None where it is missing or not finite.

    >>> finite(0.0), finite(None), finite(float("nan"))
    (0.0, None, None)
    """
    return value if value is not None and math.isfinite(value) else None


def arrowed(metric: str) -> str:
    """Return a metric's title with an arrow towards better.

    >>> arrowed("auroc"), arrowed("loss")
    ('AUROC ↑', 'loss ↓')
    """
    entry = METRICS[metric]
    return f"{entry.title} {'↑' if entry.higher_is_better else '↓'}"


def describe(record: RunRecord) -> str:
    """Return the line that says which run this is: scenario, seed, method, what is special."""
    scenario, final = record.scenario, record.selection.final_round
    method = [scenario["client"]["objective"], scenario["strategy"]]
    if scenario.get("server_optimizer"):
        method.append(scenario["server_optimizer"])
    parts = [
        scenario["name"],
        f"seed {scenario['seed']}",
        " + ".join(part["kind"] for part in method),
    ]
    if final < scenario["rounds"]:
        parts.append(f"unfinished: {final} of {scenario['rounds']} rounds")
    if scenario["data"]["source"]["kind"] == "synthetic":
        parts.append("synthetic images")
    return " · ".join(parts)
