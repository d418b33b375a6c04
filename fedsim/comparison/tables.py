"""The tables of a comparison, for people (Markdown), programs (CSV) and papers (LaTeX).

Marked is what is shown: methods that are better or worse than the reference by the corrected test,
never merely the largest mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clients.metrics import METRICS
from fedsim.comparison.bounds import within_bounds
from fedsim.comparison.table import UNDEFINED, Table, bracketed, number
from fedsim.comparison.verdicts import BETTER, EQUIVALENT, NOT_SHOWN, NOT_TESTED, WORSE, p_text
from fedsim.comparison.yardsticks import called, title_of
from fedsim.data.source import POOLED
from fedsim.spreadsheet import to_csv

MARKS = {BETTER: " ▲", WORSE: " ▼", EQUIVALENT: " ≈", NOT_SHOWN: "", NOT_TESTED: ""}
Cells = tuple[str, ...]
RAW = (
    "values",
    "summary",
    "primary_intervals",
    "differences",
    "ranks",
    "time_to_target",
    "time_summary",
    "traffic",
    "worst_site",
    "worst_site_summary",
    "yardsticks",
    "epsilons",
    "epsilon_summary",
    "subgroups",
    "subgroup_costs",
    "join",
    "tuned",
    "failures",
)
"""Parts of a comparison that become CSV files."""


def tables(comparison: Mapping[str, Any]) -> dict[str, str]:
    """Return the files of a comparison's tables: name -> content.

    Each table for people as `.md` and `.tex`; raw numbers, all digits, as `.csv`.

    Args:
        comparison: content of `comparison.json`.
    """
    files = {}
    for name, table in readable(within_bounds(comparison)).items():
        files[f"{name}.md"] = table.markdown()
        files[f"{name}.tex"] = table.latex()
    for name in RAW:
        if comparison.get(name):
            files[f"{name}.csv"] = to_csv(comparison[name])
    return files


def readable(comparison: Mapping[str, Any]) -> dict[str, Table]:
    """Return the tables for people that the comparison has something for."""
    found = {
        "comparison": _methods(comparison),
        "paired_differences": _differences(comparison),
        "seeds_and_images": _resampled(comparison),
        "costs": _costs(comparison),
        "should_my_hospital_join": _join(comparison),
    }
    return {name: table for name, table in found.items() if table.rows}


def _methods(comparison: Mapping[str, Any]) -> Table:
    """Return mean, spread and interval of every metric by setting and method, then yardsticks."""
    metrics, primary = comparison["metrics"], comparison["primary"]
    cells = {(r["setting"], r["method"], r["metric"]): r for r in comparison["summary"]}
    bars = {
        (r["setting"], title_of(r, comparison), r["metric"]): r for r in comparison["yardsticks"]
    }
    verdicts = {
        (r["setting"], r["method"], r["metric"]): r["verdict"] for r in comparison["differences"]
    }

    def line(setting: str, title: str, found: list[Mapping[str, Any]], marks: list[str]) -> Cells:
        shown = [
            spread(row, metric == primary["metric"]) + mark
            for metric, row, mark in zip(metrics, found, marks, strict=True)
        ]
        return (setting, title, *shown)

    rows: list[Cells] = []
    for setting in comparison["settings"]:
        for method in comparison["methods"]:
            keys = [(setting, method, metric) for metric in metrics]
            marks = [MARKS[verdicts.get(key, NOT_SHOWN)] for key in keys]
            rows.append(line(setting, method, [cells.get(key, {}) for key in keys], marks))
        for title in dict.fromkeys(title for where, title, _ in bars if where == setting):
            found = [bars.get((setting, title, metric), {}) for metric in metrics]
            rows.append(line(setting, f"({title})", found, [""] * len(metrics)))
    better, worse, equivalent = (MARKS[v].strip() for v in (BETTER, WORSE, EQUIVALENT))
    return Table(
        f"Mean ± standard deviation over the seeds ({len(comparison['seeds'])}), in brackets the "
        f"{100 * primary['confidence']:.0f} % interval of the mean (Student's t, cut to the "
        f"metric's range), on {_images(primary)}. {better} better, {worse} worse than "
        f"{primary['reference']} (paired t test, Holm's correction within each metric), "
        f"{equivalent} equivalent within the smallest difference of interest; without a mark "
        "no difference was shown. The primary metric is "
        f"{METRICS[primary['metric']].title}, all others are exploratory.",
        ("setting", "method", *(_arrowed(metric) for metric in metrics)),
        tuple(rows),
    )


def _differences(comparison: Mapping[str, Any]) -> Table:
    primary = comparison["primary"]
    ranks = {row["method"]: row["mean_rank"] for row in comparison["ranks"]}
    rows = tuple(
        (
            row["setting"],
            row["method"],
            bracketed(row["mean"], row["low"], row["high"], signed=True),
            str(row["num_pairs"]),
            UNDEFINED if row["p_adjusted"] is None else p_text(row["p_adjusted"]),
            UNDEFINED if row["p_exact"] is None else p_text(row["p_exact"]),
            f"{row['wins']}/{row['ties']}/{row['losses']}",
            number(ranks.get(row["method"]), 2),
            row["verdict"],
        )
        for row in comparison["differences"]
        if row["metric"] == primary["metric"]
    )
    return Table(
        f"{METRICS[primary['metric']].title}, method minus {primary['reference']}, paired by seed, "
        f"on {_images(primary)}. In brackets intervals that hold together with "
        f"{100 * primary['confidence']:.0f} % confidence (Bonferroni); p: paired t test after "
        "Holm's correction; exact p: sign-flip test, uncorrected; a tie is a difference below "
        f"{primary['tie_below']}. {comparison['rank_note']}",
        (
            "setting",
            "method",
            "difference",
            "pairs",
            "p",
            "exact p",
            "win/tie/loss",
            "mean rank",
            "verdict",
        ),
        rows,
    )


def _resampled(comparison: Mapping[str, Any]) -> Table:
    """Return the bootstrap intervals of the primary metric."""
    primary, found = comparison["primary"], comparison["primary_intervals"]
    differences = {
        (r["setting"], r["method"]): r["mean"]
        for r in comparison["differences"]
        if r["metric"] == primary["metric"]
    }
    rows = tuple(
        (
            row["setting"],
            row["method"],
            bracketed(row["mean"], row["low"], row["high"]),
            bracketed(
                differences.get((row["setting"], row["method"])),
                row["difference_low"],
                row["difference_high"],
                signed=True,
            ),
        )
        for row in found
    )
    units = f"{found[0]['unit']}s" if found else "images"
    return Table(
        f"{METRICS[primary['metric']].title} with other seeds and other test {units}: mean over "
        f"seeds and {100 * primary['confidence']:.0f} % bootstrap interval over seeds and {units} "
        f"together, and the same of the difference to {primary['reference']}, on "
        f"{_images(primary)}. Not corrected for their number.",
        ("setting", "method", "mean", "difference"),
        rows,
    )


def _costs(comparison: Mapping[str, Any]) -> Table:
    """Return worst site and traffic, and what it takes to the target if there is one."""
    primary = comparison["primary"]
    times = {(r["setting"], r["method"]): r for r in comparison["time_summary"]}
    worst = {(r["setting"], r["method"]): r for r in comparison["worst_site_summary"]}
    rows = []
    for row in comparison["traffic"]:
        key = row["setting"], row["method"]
        sent = number((row["bytes_down"] + row["bytes_up"]) / 1e6, 1)
        time = _time(times[key]) if key in times else ()
        rows.append((*key, spread(worst.get(key, {}), True), sent, *time))
    headings: Cells = ("setting", "method", "worst site", "traffic [MB]")
    caption = (
        "Worst site: among those with enough test images, the same for all methods "
        "in a seed; mean ± standard deviation over seeds. Traffic: of the whole run."
    )
    if primary["target"] is not None:
        headings += ("reached", "rounds", "virtual s", "MB to target")
        caption += (
            f" To a validation {METRICS[primary['metric']].title} of {primary['target']}: how many "
            "seeds reached it, and medians over all seeds, undefined where half or more never did."
        )
    return Table(caption, headings, tuple(rows))


def _time(row: Mapping[str, Any]) -> Cells:
    sent = row["median_bytes"]
    return (
        f"{row['num_reached']}/{row['num_seeds']}",
        number(row["median_rounds"], 1),
        number(row["median_virtual_s"], 0),
        number(None if sent is None else sent / 1e6, 1),
    )


def _join(comparison: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            row["setting"],
            row["method"],
            called(row, comparison),
            "all sites" if row["site"] == POOLED else row["site"],
            number(row["num_train"], 0),
            bracketed(row["gain_over_alone"], row["low"], row["high"], signed=True),
            number(row["gain_over_pooled"], signed=True),
            bracketed(row["probability_of_harm"], row["harm_low"], row["harm_high"], digits=2),
        )
        for row in comparison["join"]
    )
    return Table(
        f"What a site gains in {METRICS[comparison['primary']['metric']].title} on its own test "
        "images, over training alone and over pooled training (above zero the federation is "
        "better); mean over seeds with interval. Harm: share of seeds in which it would have been "
        "better off alone (for all sites: mean over seeds of the share of sites), with Wilson's "
        "interval. Not corrected for the number of sites.",
        (
            "setting",
            "method",
            "against",
            "site",
            "training images",
            "gain over alone",
            "over pooled",
            "probability of harm",
        ),
        rows,
    )


def spread(row: Mapping[str, Any], with_interval: bool) -> str:
    """Return a mean with its standard deviation and, if asked for, its interval."""
    mean, sd = row.get("mean"), row.get("sd")
    text = number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"
    if with_interval and row.get("low") is not None:
        text += f" [{number(row['low'])}, {number(row['high'])}]"
    return text


def _images(primary: Mapping[str, Any]) -> str:
    which = "the final model" if primary["model"] == "final" else "the best model by validation"
    of = "all sites together" if primary["pooled"] else "each site, averaged over sites"
    return f"{primary['split']} images of {of}, {which}"


def _arrowed(metric: str) -> str:
    entry = METRICS[metric]
    return f"{entry.title} {'↑' if entry.higher_is_better else '↓'}"
