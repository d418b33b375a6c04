"""What a run reached, as plain data: the rows that tables, files and programs are made from.

Values are raw: no percentages, unrounded, None where undefined, never zero for it.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.report.scores import (
    Reached,
    Scores,
    eligible,
    finite,
    finite_or_nan,
    reached,
    tested_sites,
)
from fedsim.spreadsheet import to_csv

if TYPE_CHECKING:
    from fedsim.records import RunRecord


@dataclass(frozen=True)
class Result:
    """One metric of one model on the test splits: a row of the results table.

    Args:
        metric: its name.
        method: `federated`, or a yardstick: `pooled` or `local`.
        model: `final` or `best` (by the validation split).
        round: the round after which the model was evaluated; None where each site has its own.
        pooled: value over all sites' test images together.
        low: lower end of its bootstrap interval, None without one.
        high: its upper end.
        num_examples: test images of all sites.
        num_valid: those that the pooled value counts.
        site_mean: unweighted mean over the sites that count.
        site_sd: sample standard deviation over them; undefined below two.
        worst_site: name of the worst of them, the first in site order among equals.
        worst: its value.
        gap: distance from the worst to the best site; undefined below two.
        num_sites_defined: sites that count: enough test images and a defined value.
        num_sites: all sites with test images of their own.
    """

    metric: str
    method: str
    model: str
    round: int | None
    pooled: float | None
    low: float | None
    high: float | None
    num_examples: int
    num_valid: int
    site_mean: float | None
    site_sd: float | None
    worst_site: str | None
    worst: float | None
    gap: float | None
    num_sites_defined: int
    num_sites: int


def results(record: RunRecord) -> list[Result]:
    """Return a row for each metric, method and model: final, then best by validation."""
    found, count = reached(record), eligible(record)
    return [
        _result(part, metric, count, len(tested_sites(record)))
        for metric in Scores.of(record).metrics
        for part in found
    ]


def external(record: RunRecord) -> list[dict[str, Any]]:
    """Return a row for each metric, method, model and external set, as plain data."""
    names = [part["name"] for part in record.population["external"]]
    groups, found = [*names, *([POOLED] if len(names) > 1 else [])], reached(record)
    return [
        {
            "site": name,
            "metric": metric,
            "method": part.method,
            "model": part.model,
            "round": part.round,
            "value": score.value,
            "low": low,
            "high": high,
            "num_examples": score.num_examples,
            "num_valid": score.num_valid,
        }
        for metric in Scores.of(record).metrics
        for part in found
        if part.method != "local"
        for name in groups
        for score in [part.at("external", name, metric)]
        for low, high in [_interval(part, "external", name, metric, alone=len(names) == 1)]
    ]


def sites(record: RunRecord) -> list[dict[str, Any]]:
    """Return a row for each site: examples per split, and every test metric of both models.

    After each value comes how many test images it counts; `counts` says whether the site is among
    those that mean, spread, gap and worst site are over.
    """
    scores, count = Scores.of(record), eligible(record)
    (final, *_) = reached(record)
    models = {"final": record.selection.final_round, "best": record.selection.best_round}
    rows = []
    for site in record.population["sites"]:
        name = site["name"]
        row: dict[str, Any] = {"site": name, "counts": name in count}
        for split in ("train", "validation", "test"):
            row[f"num_{split}"] = sum(site[split])
        for metric in scores.metrics:
            for model, round in models.items():
                score = scores.at(round, "test", name, metric)
                row[f"{metric}_{model}"] = score.value
                row[f"{metric}_{model}_num_valid"] = score.num_valid
            if interval := final.intervals.get(("test", name, metric)):
                row[f"{metric}_final_low"], row[f"{metric}_final_high"] = interval
        rows.append(row)
    return rows


def local_models(record: RunRecord) -> list[dict[str, Any]]:
    """Return every metric of each site's own final model at every site, as plain data.

    One row for each site that trained and each site or external set that it is tested at.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in record.baselines:
        own_final = (row["baseline"], row["model"]) == ("local", "final")
        if own_final and row["split"] != "validation" and row["site"] != POOLED:
            cells = found.setdefault((row["trained_at"], row["split"], row["site"]), {})
            cells[row["metric"]] = finite(row["value"])
            cells[f"{row['metric']}_num_valid"] = row["num_valid"]
    names = [site["name"] for site in record.population["sites"]]
    places = [("test", name) for name in names]
    places += [("external", part["name"]) for part in record.population["external"]]
    return [
        {"trained_at": name, "split": split, "site": site, **found[name, split, site]}
        for name in names
        for split, site in places
        if (name, split, site) in found
    ]


def site_by_site(record: RunRecord) -> list[list[float]]:
    """Return the selecting metric of each site's own final model at every site's test images.

    Rows are models, the federated one last; columns are sites; nan is undefined. Empty without
    models of single sites.
    """
    names = [site["name"] for site in record.population["sites"]]
    metric = record.selection.metric
    values = {
        (row["trained_at"], row["site"]): row.get(metric)
        for row in local_models(record)
        if row["split"] == "test"
    }
    if not values:
        return []
    (federated, *_) = reached(record)
    own = [[finite_or_nan(values.get((model, site))) for site in names] for model in names]
    return [*own, [finite_or_nan(federated.at("test", site, metric).value) for site in names]]


def results_csv(record: RunRecord) -> str:
    """Return the results table as CSV."""
    return to_csv([asdict(row) for row in results(record)])


def sites_csv(record: RunRecord) -> str:
    """Return the table of sites as CSV."""
    return to_csv(sites(record))


def _result(part: Reached, metric: str, count: tuple[str, ...], num_sites: int) -> Result:
    pooled = part.at("test", POOLED, metric)
    low, high = _interval(part, "test", POOLED, metric)
    scores = {site: part.at("test", site, metric).value for site in count}
    defined = {site: value for site, value in scores.items() if value is not None}
    worst_of = min if METRICS[metric].higher_is_better else max
    worst_site = worst_of(defined, key=defined.__getitem__) if defined else None
    values = list(defined.values())
    return Result(
        metric=metric,
        method=part.method,
        model=part.model,
        round=part.round,
        pooled=pooled.value,
        low=low,
        high=high,
        num_examples=pooled.num_examples,
        num_valid=pooled.num_valid,
        site_mean=statistics.fmean(values) if values else None,
        site_sd=statistics.stdev(values) if len(values) > 1 else None,
        worst_site=worst_site,
        worst=defined[worst_site] if worst_site is not None else None,
        gap=max(values) - min(values) if len(values) > 1 else None,
        num_sites_defined=len(values),
        num_sites=num_sites,
    )


def _interval(
    part: Reached, split: str, site: str, metric: str, *, alone: bool = False
) -> tuple[float | None, float | None]:
    """Return the interval of a value; where there is one set alone, that of all is its own."""
    known = part.intervals
    found = known.get((split, site, metric)) or (
        known.get((split, POOLED, metric)) if alone else None
    )
    return found or (None, None)
