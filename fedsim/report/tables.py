"""What a run reached, in numbers: pooled, and how evenly over the sites.

Values are raw (no percentages): three decimals where people read, unrounded in CSV. An undefined
value is the word "undefined" where people read and an empty cell in CSV, never zero.
"""

from __future__ import annotations

import csv
import io
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from clients.metrics import METRICS
from fedsim.data.source import POOLED
from fedsim.report.scores import Scores, arrowed, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from fedsim.records import RunRecord

UNDEFINED = "undefined"
HEADINGS = ("metric", "model", "pooled", "n", "site mean ± sd", "worst site", "gap", "sites")
NOTE = (
    "↑ higher, ↓ lower is better. Pooled: over the test images of all sites together; n: how many "
    "of them it counts. Site mean, sample standard deviation, worst site and gap (from worst to "
    "best) are over the sites where the metric is defined: `sites`, of all."
)


@dataclass(frozen=True)
class Result:
    """One metric of one model on the test splits: a row of the results table.

    Args:
        metric: its name.
        model: `final` or `best` (by the validation split).
        round: the round after which the model was evaluated.
        pooled: value over all sites' test images together.
        num_examples: test images of all sites.
        num_valid: those that the pooled value counts.
        site_mean: unweighted mean over the sites with a defined value.
        site_sd: sample standard deviation over them; undefined below two.
        worst_site: name of the worst of them, the first in site order among equals.
        worst: its value.
        gap: distance from the worst to the best site; undefined below two.
        num_sites_defined: sites with a defined value.
        num_sites: all sites.
    """

    metric: str
    model: str
    round: int
    pooled: float | None
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
    """Return a row for each metric and model: final, then best by validation."""
    scores = Scores.of(record)
    return [
        _result(scores, metric, model, round)
        for metric in scores.metrics
        for model, round in _models(record).items()
    ]


def sites(record: RunRecord) -> list[dict[str, Any]]:
    """Return a row for each site: examples per split, and every test metric of both models.

    After each value comes how many test images it counts.
    """
    scores = Scores.of(record)
    rows = []
    for site in record.population["sites"]:
        row: dict[str, Any] = {"site": site["name"]}
        for split in ("train", "validation", "test"):
            row[f"num_{split}"] = sum(site[split])
        for metric in scores.metrics:
            for model, round in _models(record).items():
                score = scores.at(round, "test", site["name"], metric)
                row[f"{metric}_{model}"] = score.value
                row[f"{metric}_{model}_num_valid"] = score.num_valid
        rows.append(row)
    return rows


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    r"""Return rows with the same keys as CSV; None becomes an empty cell.

    >>> to_csv([{"site": "site-00", "auroc_final": 0.0}, {"site": "site-01", "auroc_final": None}])
    'site,auroc_final\nsite-00,0.0\nsite-01,\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
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
        "## Test results",
        _markdown_table(HEADINGS, _result_cells(record)),
        f"{_selection(record)} {NOTE}",
        f"## Sites after round {record.selection.final_round}",
        _markdown_table(*_site_cells(record)),
        "n: how many of the site's test images the value counts.",
    ]
    return "\n\n".join(lines) + "\n"


def render(record: RunRecord, console: Console) -> None:
    """Print the results table to the terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in HEADINGS[1:]:
        justify: Literal["left", "right"] = (
            "left" if heading in ("model", "worst site") else "right"
        )
        table.add_column(heading, justify=justify)
    previous = ""
    for metric, model, *cells in _result_cells(record):
        if metric != previous:
            table.add_row(Text(metric, style="bold"))
        table.add_row(Text(f"  {model}"), *map(Text, cells))
        previous = metric
    console.print(Text(describe(record), style="bold"))
    console.print(table)
    console.print(Text(_selection(record)))


def number(value: float | None) -> str:
    """Return a value for people.

    >>> number(0.0), number(None)
    ('0.000', 'undefined')
    """
    return UNDEFINED if value is None else f"{value:.3f}"


def _models(record: RunRecord) -> dict[str, int]:
    return {"final": record.selection.final_round, "best": record.selection.best_round}


def _result(scores: Scores, metric: str, model: str, round: int) -> Result:
    pooled = scores.at(round, "test", POOLED, metric)
    defined = scores.defined(round, "test", metric)
    worst_of = min if METRICS[metric].higher_is_better else max
    worst_site = worst_of(defined, key=defined.__getitem__) if defined else None
    values = list(defined.values())
    return Result(
        metric=metric,
        model=model,
        round=round,
        pooled=pooled.value,
        num_examples=pooled.num_examples,
        num_valid=pooled.num_valid,
        site_mean=statistics.fmean(values) if values else None,
        site_sd=statistics.stdev(values) if len(values) > 1 else None,
        worst_site=worst_site,
        worst=defined[worst_site] if worst_site is not None else None,
        gap=max(values) - min(values) if len(values) > 1 else None,
        num_sites_defined=len(values),
        num_sites=len(scores.sites),
    )


def _selection(record: RunRecord) -> str:
    metric = METRICS[record.selection.metric].title
    return f"On test images; the best round is chosen by pooled validation {metric}."


def _result_cells(record: RunRecord) -> list[tuple[str, ...]]:
    return [
        (
            arrowed(row.metric),
            f"{row.model} ({row.round})",
            number(row.pooled),
            str(row.num_valid),
            _spread(row),
            UNDEFINED if row.worst_site is None else f"{number(row.worst)} {row.worst_site}",
            number(row.gap),
            f"{row.num_sites_defined}/{row.num_sites}",
        )
        for row in results(record)
    ]


def _spread(row: Result) -> str:
    if row.site_sd is None:
        return number(row.site_mean)
    return f"{number(row.site_mean)} ± {number(row.site_sd)}"


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


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
