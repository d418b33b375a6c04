"""A run's metrics, ready to be looked up: what tables and figures both read.

An undefined value (AUROC where only one class is present, a loss that is not finite) is None here
and stays None: it is left out of means and lines and named in print, never taken for zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.records.read import are_enough

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
        sites: names in site order; none where the server holds all that is held out.
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
            sites=tested_sites(record),
            rounds=tuple(sorted({row["round"] for row in record.metrics})),
            table={(row["round"], *_key(row)): _score(row) for row in record.metrics},
        )

    def at(self, round: int, split: str, site: str, metric: str) -> Score:
        """Return one score; one that was not recorded is undefined, on no examples."""
        return self.table.get((round, split, site, metric), Score(None, 0, 0))

    def defined(self, round: int, split: str, metric: str) -> dict[str, float]:
        """Return the sites' defined values by name, in site order."""
        values = {site: self.at(round, split, site, metric).value for site in self.sites}
        return {site: value for site, value in values.items() if value is not None}


@dataclass(frozen=True)
class Reached:
    """What one model of one method reached.

    Args:
        method: federated, pooled (one training on all images) or local (each site alone).
        model: final or best (by validation images).
        round: after which; None where each site has its own.
        table: scores by (split, site or `fedsim.data.source.POOLED`, metric).
        intervals: low and high by the same keys, where they are known.
    """

    method: str
    model: str
    round: int | None
    table: Mapping[tuple[str, str, str], Score]
    intervals: Mapping[tuple[str, str, str], tuple[float, float]]

    def at(self, split: str, site: str, metric: str) -> Score:
        """Return one score; one that was not recorded is undefined, on no examples."""
        return self.table.get((split, site, metric), Score(None, 0, 0))


METHODS = {
    "federated": "federated",
    "unshrunk": "federated, unshrunk",
    "pooled": "pooled training",
    "local": "each site alone",
}
"""Method -> its name for people, in the order of tables."""


def reached(record: RunRecord) -> list[Reached]:
    """Return what every method of a run reached: the federation, then its yardsticks."""
    found: dict[tuple[str, str], dict[tuple[str, str, str], Score]] = {}
    rounds: dict[tuple[str, str], int | None] = {}
    for model, round in (
        ("final", record.selection.final_round),
        ("best", record.selection.best_round),
    ):
        found["federated", model] = {}
        rounds["federated", model] = round
        for row in record.metrics:
            if row["round"] == round:
                found["federated", model][_key(row)] = _score(row)
    for row in record.baselines:
        if POOLED in (row["trained_at"], row["site"]) or row["trained_at"] == row["site"]:
            method = row["baseline"], row["model"]
            found.setdefault(method, {})[_key(row)] = _score(row)
            rounds[method] = row["round"] if row["baseline"] == "pooled" else None
    intervals: dict[tuple[str, str], dict[tuple[str, str, str], tuple[float, float]]] = {}
    for row in record.intervals:
        if row["low"] is not None:
            of_method = intervals.setdefault((row["method"], row["model"]), {})
            of_method[_key(row)] = row["low"], row["high"]
    order = [name for method in METHODS for name in found if name[0] == method]
    return [Reached(*name, rounds[name], found[name], intervals.get(name, {})) for name in order]


def tested_sites(record: RunRecord) -> tuple[str, ...]:
    """Return the sites that have test images; none where the server holds them all."""
    if record.population["drawn"]:
        return ()
    return tuple(site["name"] for site in record.population["sites"])


def eligible(record: RunRecord) -> tuple[str, ...]:
    """Return the sites that count for mean, spread, gap and worst site.

    Those with enough test images; the same for every metric and method.
    """
    held = {site["name"]: site["test"] for site in record.population["sites"]}
    return tuple(n for n in tested_sites(record) if are_enough(held[n], record.scenario))


def of_class(record: RunRecord, which: str) -> str:
    """Return of which class images must be enough, to be read after "images"; any, if of none."""
    return "" if record.scenario["data"]["task"] == "regression" else f" of {which} class"


def resampled(record: RunRecord) -> str:
    """Return what the bootstrap intervals draw: images, or patients where they are known."""
    units = {row["unit"] for row in record.intervals}
    if units == {"image", "patient"}:
        return "patients (images where patients are not known)"
    return "patients" if units == {"patient"} else "images"


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["split"], row["site"], row["metric"]


def _score(row: Mapping[str, Any]) -> Score:
    return Score(finite(row["value"]), row["num_examples"], row["num_valid"])


def finite(value: float | None) -> float | None:
    """Return `value`, or None where it is missing or not finite.

    >>> finite(0.0), finite(None), finite(float("nan"))
    (0.0, None, None)
    """
    return value if value is not None and math.isfinite(value) else None


def finite_or_nan(value: float | None) -> float:
    """Return `value` for drawing: nan where it is undefined, which leaves a gap."""
    return value if value is not None and math.isfinite(value) else math.nan


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
    if record.population["images"]["synthetic"]:
        parts.append("synthetic images")
    return " · ".join(parts)
