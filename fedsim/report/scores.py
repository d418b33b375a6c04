"""A run's metrics, ready to be looked up: what tables and figures both read.

An undefined value (AUROC where only one class is present, a loss that is not finite) is None here
and stays None: it is left out of means and lines and named in print, never taken for zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsim.records import RunRecord

POOLED = "pooled"
"""The name under which a record keeps the value over all sites' examples together."""

ACRONYMS = frozenset({"auroc", "auprc", "ece", "f1", "hd95", "mae", "mse"})
LOWER_IS_BETTER = frozenset({"loss", "error", "ece", "brier", "hd95", "mae", "mse"})
"""A metric with one of these words in its name is better when lower."""


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
        metrics: names in the order of the record.
        sites: names in site order.
        rounds: evaluated rounds, ascending; 0 is the initial evaluation.
        table: scores by (round, split, site or `POOLED`, metric).
        selected_by: the metric that chose the best round.
        higher_is_better: whether a larger `selected_by` is better.
    """

    metrics: tuple[str, ...]
    sites: tuple[str, ...]
    rounds: tuple[int, ...]
    table: dict[tuple[int, str, str, str], Score]
    selected_by: str
    higher_is_better: bool

    @classmethod
    def of(cls, record: RunRecord) -> Scores:
        """Index the metrics of `record`."""
        return cls(
            metrics=tuple(dict.fromkeys(row["metric"] for row in record.metrics)),
            sites=tuple(site["name"] for site in record.population["sites"]),
            rounds=tuple(sorted({row["round"] for row in record.metrics})),
            table={
                (row["round"], row["split"], row["site"], row["metric"]): Score(
                    finite(row["value"]), row["num_examples"], row["num_valid"]
                )
                for row in record.metrics
            },
            selected_by=record.selection.metric,
            higher_is_better=record.selection.higher_is_better,
        )

    def at(self, round: int, split: str, site: str, metric: str) -> Score:
        """Return one score; one that was not recorded is undefined, on no examples."""
        return self.table.get((round, split, site, metric), Score(None, 0, 0))

    def defined(self, round: int, split: str, metric: str) -> dict[str, float]:
        """Return the sites' defined values by name, in site order."""
        values = {site: self.at(round, split, site, metric).value for site in self.sites}
        return {site: value for site, value in values.items() if value is not None}

    def prefers_high(self, metric: str) -> bool:
        """Say whether a larger value of `metric` is better."""
        if metric == self.selected_by:
            return self.higher_is_better
        return LOWER_IS_BETTER.isdisjoint(metric.split("_"))

    def label(self, metric: str) -> str:
        """Return the metric's name for people, with an arrow towards better."""
        return f"{spell(metric)} {'↑' if self.prefers_high(metric) else '↓'}"


def finite(value: float | None) -> float | None:
    """Return `value`, or None where it is missing or not finite.

    >>> finite(0.0), finite(None), finite(float("nan"))
    (0.0, None, None)
    """
    return value if value is not None and math.isfinite(value) else None


def spell(metric: str) -> str:
    """Return a metric's name for people.

    >>> spell("auroc"), spell("balanced_accuracy")
    ('AUROC', 'balanced accuracy')
    """
    return " ".join(word.upper() if word in ACRONYMS else word for word in metric.split("_"))


def describe(record: RunRecord) -> str:
    """Return the line that says which run this is: scenario, seed, method, kind of images."""
    scenario = record.scenario
    method = f"{scenario['client']['objective']['kind']} + {scenario['strategy']['kind']}"
    parts = [scenario["name"], f"seed {scenario['seed']}", method]
    if scenario["data"]["source"]["kind"] == "synthetic":
        parts.append("synthetic images")
    return " · ".join(parts)
