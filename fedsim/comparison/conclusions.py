"""What a study concludes, in sentences that its numbers support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clients.metrics import METRICS
from fedsim.comparison.differences import where_text
from fedsim.comparison.verdicts import EQUIVALENT, NOT_SHOWN, size
from fedsim.data.source import POOLED


def conclusions(content: Mapping[str, Any]) -> list[str]:
    """Return sentences: the primary comparisons, what the seeds can show, harm, what is missing.

    Args:
        content: of `comparison.json`, so far.
    """
    metric = content["primary"]["metric"]
    return [
        *(row["sentence"] for row in content["differences"] if row["metric"] == metric),
        *_other_images(content),
        *_power(content["power"]),
        *_harm(content),
        *_missing(content),
    ]


def _other_images(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield which verdicts other test images of the same kind might overturn."""
    primary, settings = content["primary"], tuple(content["settings"])
    limit = primary["smallest_difference_of_interest"]
    bootstrap = {(row["setting"], row["method"]): row for row in content["primary_intervals"]}
    for row in content["differences"]:
        found = bootstrap.get((row["setting"], row["method"]))
        if row["metric"] != primary["metric"] or not found or row["verdict"] == NOT_SHOWN:
            continue
        low, high = found["difference_low"], found["difference_high"]
        if low is None:
            continue
        confirmed = (
            (-limit < low and high < limit)
            if row["verdict"] == EQUIVALENT
            else (low > 0 or high < 0)
        )
        if not confirmed:
            yield (
                f"That {row['method']} is {row['verdict']}{where_text(row['setting'], settings)} "
                f"is said of these test {found['unit']}s: with others of their kind the difference "
                f"may lie anywhere in [{low:+.3f}, {high:+.3f}] (bootstrap)."
            )


def _power(power: Mapping[str, Any]) -> Iterator[str]:
    """Yield what so many seeds can show, for the comparison with the largest spread."""
    shown = [row for row in power["rows"] if row["detectable"] is not None]
    if not shown:
        return
    worst = max(shown, key=lambda row: row["detectable"])
    num, most = power["num_seeds"], power["num_comparisons"]
    yield (
        f"With {num} seeds and {most} comparison{'s' * (most != 1)}, differences from "
        f"{size(worst['detectable'])} on are shown with {100 * power['power']:.0f} % power where "
        f"the spread is largest ({worst['method']})."
    )
    if num < power["exact_test_seeds"]:
        yield (
            "Verdicts rest on normally distributed differences: after correction an exact "
            f"sign-flip or signed-rank test can reject from {power['exact_test_seeds']} seeds on."
        )


def _harm(content: Mapping[str, Any]) -> Iterator[str]:
    settings = tuple(content["settings"])
    metric = METRICS[content["primary"]["metric"]]
    gain = f"{'gain in' if metric.higher_is_better else 'reduction of'} {metric.title}"
    for row in content["join"]:
        if row["site"] == POOLED and row["low"] is not None:
            yield (
                f"With {row['method']}{where_text(row['setting'], settings)} "
                f"{100 * row['probability_of_harm']:.0f} % of sites "
                f"[{100 * row['harm_low']:.0f} %, {100 * row['harm_high']:.0f} %] were worse off "
                f"than alone; the mean {gain} was {row['gain_over_alone']:+.3f} "
                f"[{row['low']:+.3f}, {row['high']:+.3f}]."
            )


def _missing(content: Mapping[str, Any]) -> Iterator[str]:
    planned = len(content["settings"]) * len(content["seeds"])
    for method in content["methods"]:
        there = sum(
            row["num_seeds"]
            for row in content["summary"]
            if (row["method"], row["metric"]) == (method, content["primary"]["metric"])
        )
        if there < planned:
            yield (
                f"{method} has no value in {planned - there} of {planned} runs. They are left out, "
                "which flatters a method that failed because it diverged."
            )
    if not content["yardsticks"]:
        yield (
            "Whether a hospital should join is not answered: the runs have no yardsticks "
            "(baselines: [pooled, local])."
        )
