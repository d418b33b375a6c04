"""What a run reached, in numbers: pooled, and how evenly over the sites.

Values are raw (no percentages): three decimals where people read, unrounded in CSV. An undefined
value is the word "undefined" where people read and an empty cell in CSV, never zero.
"""

from __future__ import annotations

import csv
import io
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.report.scores import (
    METHODS,
    Reached,
    Scores,
    arrowed,
    describe,
    eligible,
    finite,
    finite_or_nan,
    reached,
    resampled,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedsim.records import RunRecord

UNDEFINED, NO_ROUND = "undefined", "\N{EN DASH}"
HEADINGS = (
    "metric",
    "method",
    "model",
    "pooled",
    "n",
    "site mean ± sd",
    "worst site",
    "gap",
    "sites",
)
NOTE = (
    "↑ higher, ↓ lower is better. Pooled: over the test images of all sites together; n: how many "
    "of them it counts."
)
YARDSTICKS = (
    "Yardsticks: *pooled training* is one training on the images of all sites together, *each site "
    "alone* the models that the sites train without the others, each judged on its own site's "
    "images."
)
NAMED = 6
"""Sites that a sentence names."""
EXAMPLES = 3
"""Groups of equal images, and images of a group, that the page shows."""


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
        num_sites_defined: sites that count: enough images of every class and a defined value.
        num_sites: all sites.
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
        _result(part, metric, count, len(record.population["sites"]))
        for metric in Scores.of(record).metrics
        for part in found
    ]


def external(record: RunRecord) -> list[dict[str, Any]]:
    """Return a row for each metric, method, model and external set, as plain data."""
    names = [part["name"] for part in record.population["external"]]
    groups = [*names, *([POOLED] if len(names) > 1 else [])]
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
        for part in reached(record)
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


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    r"""Return rows as CSV; None and what a row lacks become empty cells.

    >>> to_csv([{"site": "site-00", "auroc_final": 0.0}, {"site": "site-01", "auroc_final": None}])
    'site,auroc_final\nsite-00,0.0\nsite-01,\n'
    """
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def results_csv(record: RunRecord) -> str:
    """Return the results table as CSV."""
    return to_csv([asdict(row) for row in results(record)])


def sites_csv(record: RunRecord) -> str:
    """Return the table of sites as CSV."""
    return to_csv(sites(record))


def to_markdown(record: RunRecord) -> str:
    """Return the report's page: which run, its results, its sites."""
    lines = [
        f"# {record.scenario['name']}",
        f"{describe(record)}.",
        *warnings(record),
        *_equal_images(record),
        "## Test results",
        markdown_table(HEADINGS, result_cells(record)),
        " ".join([selection(record), NOTE, *notes(record)]),
    ]
    if record.population["external"]:
        lines += [
            "## External test images (no site trained on these)",
            markdown_table(
                ("metric", "method", "model", "set", "value", "n"), external_cells(record)
            ),
        ]
    lines += [
        f"## Sites after round {record.selection.final_round}",
        markdown_table(*_site_cells(record)),
        "n: how many of the site's test images the value counts.",
    ]
    return "\n\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """Return a value for people.

    >>> number(0.0), number(None)
    ('0.000', 'undefined')
    """
    return UNDEFINED if value is None else f"{value:.3f}"


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


def warnings(record: RunRecord) -> Iterable[str]:
    """Yield what a reader must know of the data."""
    found = record.population["duplicates"]
    if found["num_groups"]:
        yield (
            f"**{found['num_groups']} images are in the data more than once, pixel for pixel: "
            f"{found['across_splits']} of them in several splits, {found['across_sites']} at "
            f"several sites, {found['across_labels']} with different labels.**"
        )
    if wrong := {n: c for n, c in record.population["num_mislabelled"].items() if c}:
        listed = ", ".join(f"{name} {num}" for name, num in wrong.items())
        yield f"Training labels were made wrong on purpose (label noise): {listed}."


def notes(record: RunRecord) -> Iterable[str]:
    """Yield what a reader must know of the numbers."""
    sites, count = record.population["sites"], eligible(record)
    least = record.scenario["evaluation"]["min_per_class"]
    left_out = [site["name"] for site in sites if site["name"] not in count]
    yield (
        f"Site mean, sample standard deviation, worst site and gap (from worst to best) are over "
        f"the {len(count)} of {len(sites)} sites with at least {least} test images of every class"
        + (f", so without {_listed(left_out)}." if left_out else ".")
    )
    if record.intervals:
        confidence = record.intervals[0]["confidence"]
        num = record.scenario["evaluation"]["num_resamples"]
        yield (
            f"In brackets: {100 * confidence:.0f} % bootstrap intervals from {num} resamples of "
            f"the test {resampled(record)}; they cover the choice of test images only, not another "
            "seed or another training."
        )
    if record.baselines:
        yield YARDSTICKS


def _equal_images(record: RunRecord) -> Iterable[str]:
    """Yield examples of images that are there more than once."""
    found = record.population["duplicates"]
    if found["num_groups"]:
        groups = found["examples"]
        yield "For example:"
        yield "\n".join(f"- {_listed(group, EXAMPLES, '; ')}" for group in groups[:EXAMPLES])


def _listed(names: Sequence[str], most: int = NAMED, join: str = ", ") -> str:
    more = len(names) - most
    return join.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def selection(record: RunRecord) -> str:
    """Return what chooses the best round, in a sentence."""
    metric = METRICS[record.selection.metric].title
    return f"On test images; the best round is chosen by pooled validation {metric}."


def result_cells(record: RunRecord) -> list[tuple[str, ...]]:
    """Return the results for people: a cell for each of `HEADINGS`."""
    return [
        (
            arrowed(row.metric),
            METHODS[row.method],
            _model(row.model, row.round),
            bracketed(row.pooled, row.low, row.high),
            str(row.num_valid),
            spread(row.site_mean, row.site_sd),
            UNDEFINED if row.worst_site is None else f"{number(row.worst)} {row.worst_site}",
            number(row.gap),
            f"{row.num_sites_defined}/{row.num_sites}",
        )
        for row in results(record)
    ]


def external_cells(record: RunRecord) -> list[tuple[str, ...]]:
    """Return the results on external sets for people."""
    return [
        (
            arrowed(row["metric"]),
            METHODS[row["method"]],
            _model(row["model"], row["round"]),
            row["site"],
            bracketed(row["value"], row["low"], row["high"]),
            str(row["num_valid"]),
        )
        for row in external(record)
    ]


def _model(model: str, round: int | None) -> str:
    return f"{model} ({NO_ROUND if round is None else round})"


def bracketed(value: float | None, low: float | None, high: float | None) -> str:
    """Return a value with its interval, if it has one.

    >>> bracketed(0.9, 0.85, 0.94), bracketed(0.9, None, None)
    ('0.900 [0.850, 0.940]', '0.900')
    """
    if low is None:
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def spread(mean: float | None, sd: float | None) -> str:
    """Return a mean with its standard deviation, if it has one.

    >>> spread(0.9, 0.01), spread(None, None)
    ('0.900 ± 0.010', 'undefined')
    """
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"


def _site_cells(record: RunRecord) -> tuple[list[str], list[list[str]]]:
    scores = Scores.of(record)
    headings = [
        "site",
        "train",
        "validation",
        "test",
        *(f"{arrowed(metric)} (n)" for metric in scores.metrics),
    ]
    counts = ("num_train", "num_validation", "num_test")
    return headings, [
        [row["site"], *(str(row[key]) for key in counts)]
        + [
            f"{number(row[f'{metric}_final'])} ({row[f'{metric}_final_num_valid']})"
            for metric in scores.metrics
        ]
        for row in sites(record)
    ]


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
