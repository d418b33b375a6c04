"""What the figures of a run show, in words, for those who do not see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.report import agreement
from fedsim.report.rows import sites
from fedsim.report.scores import Scores, eligible, tested_sites
from fedsim.report.tables import number
from fedsim.report.timeline import clock, computing_share

if TYPE_CHECKING:
    from fedsim.records import RunRecord


def alternative(name: str, record: RunRecord) -> str:
    """Return what the figure of this name shows, with the numbers that a reader takes from it."""
    match name:
        case "learning_curves" | "learning_curves_virtual_time":
            return _curves(record, name.endswith("time"))
        case "site_bars":
            return _bars(record)
        case "label_distribution":
            return _labels(record)
        case "loss_decomposition":
            return _terms(record)
        case "calibration":
            return (
                "Reliability diagram of the final model: how often its predictions come true, over "
                "the probability that it gives them, and below it the number of test images in "
                "each bin."
            )
        case "predicted_against_true":
            return agreement.text(record)
        case "timeline":
            return _timeline(record)
        case "local_models":
            title = METRICS[record.selection.metric].title
            return (
                f"Matrix of test {title}: the model that each site trained alone, and the "
                "federated one in the last row, judged on the test images of every site."
            )
        case "contact_sheet":
            names = ", ".join(record.population["class_names"])
            return f"Training images of each site, by class: {names}."
        case _:
            return name.replace("_", " ").capitalize()


def _curves(record: RunRecord, over_time: bool) -> str:
    scores, final = Scores.of(record), record.selection.final_round
    changes = [
        f"{METRICS[metric].title} from {number(scores.at(0, 'test', POOLED, metric).value)} to "
        f"{number(scores.at(final, 'test', POOLED, metric).value)}"
        for metric in scores.metrics
    ]
    along = f"{clock(record)[final]:.3g} virtual seconds" if over_time else f"{final} rounds"
    return (
        f"Lines of each metric over {along}, on validation and test images of all sites pooled, "
        f"with the range of the sites. On test images: {'; '.join(changes)}. The best round is "
        f"{record.selection.best_round}."
    )


def _bars(record: RunRecord) -> str:
    metric = record.selection.metric
    found = {row["site"]: row[f"{metric}_final"] for row in sites(record)}
    defined = {site: found[site] for site in eligible(record) if found.get(site) is not None}
    text = (
        f"Bars of the test {METRICS[metric].title} at each of {len(tested_sites(record))} sites "
        "after the final round, with a line at the value over all of them together."
    )
    if not defined:
        return text
    low, high = min(defined, key=defined.__getitem__), max(defined, key=defined.__getitem__)
    return (
        f"{text} Lowest: {number(defined[low])} at {low}; highest: {number(defined[high])} at "
        f"{high}."
    )


def _labels(record: RunRecord) -> str:
    found = record.population["sites"]
    sizes = [sum(site["train"]) for site in found]
    return (
        f"Stacked bars of the training images of {len(found)} sites by class, "
        f"{', '.join(record.population['class_names'])}: {min(sizes):,} to {max(sizes):,} images "
        "a site. Above their numbers, below the share of each class."
    )


def _terms(record: RunRecord) -> str:
    last = [row["loss_decomposition"] for row in record.rounds if row["loss_decomposition"]][-1]
    terms = {
        "local": "local_loss",
        "distribution shift": "distribution_shift_loss",
        "aggregation": "aggregation_loss",
        "their sum, the global loss": "global_loss",
    }
    values = ", ".join(f"{name} {number(last[key])}" for name, key in terms.items())
    return f"Lines of the three terms of the global training loss by round. In the last: {values}."


def _timeline(record: RunRecord) -> str:
    busy = computing_share(record)
    return (
        f"Bars over virtual time of when each of {len(record.population['devices'])} sites loads, "
        "computes, sends or is idle, in the first rounds. Over the whole run sites compute "
        f"{100 * min(busy.values(), default=0):.0f} to {100 * max(busy.values(), default=0):.0f} % "
        "of the time."
    )
