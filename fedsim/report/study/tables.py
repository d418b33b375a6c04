"""What a study found, as the tables of its page; numbers are those of comparison.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedsim.comparison.conclusions import TWO_WAYS_TO_BE_ALONE
from fedsim.comparison.yardsticks import ALONE, called, title_of
from fedsim.data.source import POOLED
from fedsim.report.document.parts import Cell, Table, Tone, num, size_cell, word
from fedsim.report.scores import arrowed
from fedsim.report.tables import bracketed, number

Comparison = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]
NONE = "\N{EN DASH}"
TONES: Mapping[str, Tone] = {
    "better": "good",
    "worse": "bad",
    "not shown": "quiet",
    "not tested": "quiet",
}


def of_setting(comparison: Comparison, part: str, setting: str) -> list[Mapping[str, Any]]:
    """Return the rows of a part of the comparison that belong to a setting."""
    return [row for row in comparison.get(part) or () if row["setting"] == setting]


def methods(comparison: Comparison, setting: str) -> Table | None:
    """Return mean and interval of the primary metric, and the difference to the reference."""
    primary = comparison["primary"]
    metric, reference = primary["metric"], primary["reference"]
    means = _by_method(of_setting(comparison, "summary", setting), metric)
    if not means:
        return None
    differences = _by_method(of_setting(comparison, "differences", setting), metric)
    rows = []
    for method in comparison["methods"]:
        mean = means.get(method)
        if mean is None:
            continue
        without = "reference" if method == reference else NONE
        rows.append(
            [
                word(method),
                interval(mean["mean"], mean["low"], mean["high"]),
                *_difference(differences.get(method), without),
                num(mean["num_seeds"]),
            ]
        )
    confidence = 100 * primary.get("confidence", 0.95)
    return Table(
        f"{arrowed(metric)} on {primary['split']} images"
        + (", all sites pooled" if primary["pooled"] else ", mean over sites"),
        (
            "method",
            "mean [interval]",
            f"difference to {reference} [interval]",
            "verdict",
            "adjusted p",
            "better, equal, worse",
            "seeds",
        ),
        rows,
        f"Mean over seeds with its {confidence:.0f} % interval (Student's t, cut to the "
        "metric's range). Differences are of runs with the same seed; their intervals and p-values "
        "are corrected for the number of comparisons. Better, equal, worse: in how many seeds.",
    )


def _difference(row: Mapping[str, Any] | None, without: str) -> list[Cell]:
    if row is None:
        return [Cell(NONE, None), Cell(without, without), Cell(NONE, None), Cell(NONE, None)]
    counts = f"{row['wins']}, {row['ties']}, {row['losses']}"
    return [
        interval(row["mean"], row["low"], row["high"], signed=True),
        Cell(row["verdict"], row["verdict"], TONES.get(row["verdict"], "")),
        Cell(p_value(row["p_adjusted"]), row["p_adjusted"]),
        Cell(counts, row["wins"]),
    ]


def resampled(comparison: Comparison, setting: str) -> Table | None:
    """Return the bootstrap intervals of the primary metric and of the differences in it."""
    primary = comparison["primary"]
    found = of_setting(comparison, "primary_intervals", setting)
    differences = _by_method(of_setting(comparison, "differences", setting), primary["metric"])
    rows = []
    for row in found:
        difference = Cell("reference", None)
        if (own := differences.get(row["method"])) is not None:
            low, high = row["difference_low"], row["difference_high"]
            difference = interval(own["mean"], low, high, signed=True)
        mean = interval(row["mean"], row["low"], row["high"])
        rows.append([word(row["method"]), mean, difference])
    if not rows:
        return None
    return Table(
        f"{arrowed(primary['metric'])} with other seeds and other test images",
        ("method", "mean [interval]", f"difference to {primary['reference']} [interval]"),
        rows,
        f"{100 * primary.get('confidence', 0.95):.0f} % bootstrap intervals over seeds and test "
        f"{found[0]['unit']}s together, not corrected for their number: those above are for other "
        "seeds on the same data.",
    )


def metrics(comparison: Comparison, setting: str) -> Table | None:
    """Return the mean of every metric, with its interval."""
    found = of_setting(comparison, "summary", setting)
    names = comparison["metrics"]
    if len(names) < 2 or not found:
        return None
    by_metric = {metric: _by_method(found, metric) for metric in names}
    rows = [
        [word(method), *(_mean(by_metric[metric].get(method)) for metric in names)]
        for method in comparison["methods"]
        if method in by_metric[names[0]]
    ]
    return Table(
        "Every metric",
        ("method", *map(arrowed, names)),
        rows,
        "Mean over seeds with its interval, cut to the metric's range. Only the primary metric was "
        "chosen beforehand; the others are there to look at.",
    )


def costs(comparison: Comparison, setting: str) -> Table | None:
    """Return traffic and, where there is a target, how long it takes to reach it."""
    sent = _by_method(of_setting(comparison, "traffic", setting))
    times = _by_method(of_setting(comparison, "time_summary", setting))
    on_a_clock = any(row["median_virtual_s"] is not None for row in times.values())
    target = comparison["primary"].get("target")
    headings = ["method", "sent down", "sent up"]
    if times:
        headings += ["reached", "rounds", "bytes"] + ["virtual seconds"] * on_a_clock
    rows = []
    for method in comparison["methods"]:
        if method not in sent:
            continue
        row = [
            word(method),
            size_cell(sent[method]["bytes_down"]),
            size_cell(sent[method]["bytes_up"]),
        ]
        if times:
            row += _time(times.get(method), on_a_clock)
        rows.append(row)
    if not rows:
        return None
    note = "Sent: by a whole run, mean over seeds."
    if times:
        note += (
            f" Then how many seeds reached {target:g} on validation images, and medians until "
            "then; never reached counts as later than all others."
        )
    return Table("What it takes", headings, rows, note)


def _time(row: Mapping[str, Any] | None, on_a_clock: bool) -> list[Cell]:
    if row is None:
        return [Cell(NONE, None)] * (3 + on_a_clock)
    rounds = row["median_rounds"]
    seconds = row["median_virtual_s"]
    cells = [
        Cell(f"{row['num_reached']} of {row['num_seeds']}", row["num_reached"]),
        Cell(NONE, None) if rounds is None else Cell(f"{rounds:g}", rounds),
        size_cell(row["median_bytes"]),
    ]
    if on_a_clock:
        cells.append(Cell(NONE, None) if seconds is None else Cell(f"{seconds:.1f}", seconds))
    return cells


def fairness(comparison: Comparison, setting: str) -> Table | None:
    """Return the value at the worst site and those of the yardsticks."""
    metric = comparison["primary"]["metric"]
    worst = of_setting(comparison, "worst_site_summary", setting)
    rows = [[word(row["method"]), num(row["num_seeds"]), _mean(row)] for row in worst]
    if not rows:
        return None
    return Table(
        f"{arrowed(metric)} at the worst site",
        ("method", "seeds", "mean [interval]"),
        rows,
        "The worst of the sites with enough test images in all runs of a seed. The "
        "worst of several noisy values is lower than what one hospital should expect, the more so "
        "the noisier they are: compare it only between methods of a similar level.",
    )


def yardsticks(comparison: Comparison, setting: str) -> Table | None:
    """Return what pooled training and each site alone reach."""
    found = of_setting(comparison, "yardsticks", setting)
    if not found:
        return None
    names = [m for m in comparison["metrics"] if any(row["metric"] == m for row in found)]
    by_title: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in found:
        by_title.setdefault(title_of(row, comparison), {})[row["metric"]] = row
    rows = [
        [word(title), *(_mean(by_metric.get(m)) for m in names)]
        for title, by_metric in by_title.items()
    ]
    return Table(
        "Yardsticks",
        ("training", *map(arrowed, names)),
        rows,
        "Mean over seeds with its interval: one training on the images of all sites together, and "
        "each site without the others, judged on its own images, with the objective and the rate "
        "of a method, which was not tuned for it.",
    )


def join(comparison: Comparison, setting: str) -> Table | None:
    """Return what each site gains by taking part."""
    found = of_setting(comparison, "join", setting)
    if not found:
        return None
    named = any(called(row, comparison) != ALONE for row in found)
    rows = [
        [
            word("all sites" if row["site"] == POOLED else row["site"]),
            word(row["method"]),
            *([word(called(row, comparison))] if named else []),
            Cell(NONE, None) if row.get("num_train") is None else _count(row["num_train"]),
            interval(row["gain_over_alone"], row["low"], row["high"], signed=True),
            value(row["gain_over_pooled"], signed=True),
            _share(row["probability_of_harm"], row.get("harm_low"), row.get("harm_high")),
        ]
        for row in found
    ]
    return Table(
        f"Gain in {arrowed(comparison['primary']['metric'])} by joining",
        (
            "site",
            "method",
            *(["against"] if named else []),
            "training images",
            "gain over alone [interval]",
            "gain over pooled",
            "probability of harm [interval]",
        ),
        rows,
        "Above zero the federation is better. Harm: the federated model is worse on the site's "
        "own test images than the one that it trained alone, share of seeds. Intervals are not "
        "corrected for their number. Where a seed decides who holds which images, a site of one "
        "name is another hospital in every seed."
        + f" {TWO_WAYS_TO_BE_ALONE} A method that promises less than a model alone is not held "
        "against it." * named,
    )


def interval(
    mean: float | None, low: float | None, high: float | None, *, signed: bool = False
) -> Cell:
    """Return a cell with a mean and its interval."""
    if not signed or mean is None:
        return Cell(bracketed(mean, low, high), mean)
    between = (
        "" if low is None or high is None else f" [{signed_number(low)}, {signed_number(high)}]"
    )
    return Cell(signed_number(mean) + between, mean)


def value(found: float | None, *, signed: bool = False) -> Cell:
    """Return a cell with a number of three decimals."""
    if found is None:
        return Cell(NONE, None)
    return Cell(signed_number(found) if signed else number(found), found)


def signed_number(found: float) -> str:
    """Return a number with its sign, unless it is zero as far as it is shown.

    >>> signed_number(0.0312), signed_number(-0.0004)
    ('+0.031', '0.000')
    """
    text = f"{found:+.3f}"
    return text if float(text) else "0.000"


def p_value(p: float | None) -> str:
    """Return a p-value for people.

    >>> p_value(0.0312), p_value(0.0001)
    ('0.031', '< 0.001')
    """
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _mean(row: Mapping[str, Any] | None) -> Cell:
    return Cell(NONE, None) if row is None else interval(row["mean"], row["low"], row["high"])


def _share(share: float | None, low: float | None, high: float | None) -> Cell:
    if share is None:
        return Cell(NONE, None)
    between = "" if low is None or high is None else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return Cell(f"{100 * share:.0f}{between} %", share)


def _count(found: float) -> Cell:
    return Cell(f"{found:,.0f}", found)


def _by_method(
    rows: Iterable[Mapping[str, Any]], metric: str | None = None
) -> dict[str, Mapping[str, Any]]:
    return {row["method"]: row for row in rows if metric is None or row["metric"] == metric}
