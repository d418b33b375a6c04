"""What a study concludes, in sentences that its numbers support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clients.metrics import METRICS
from fedsim.comparison.differences import where_text
from fedsim.comparison.verdicts import EQUIVALENT, NOT_SHOWN, NOT_TESTED, size
from fedsim.comparison.yardsticks import called
from fedsim.data.source import POOLED

UNDECIDED = (NOT_SHOWN, NOT_TESTED)
TWO_WAYS_TO_BE_ALONE = (
    "A hospital that stays alone and releases nothing needs no privacy: whether it should join is "
    "said by alone without privacy. Alone for a method's epsilon says whether sites make more of "
    "an epsilon together. Neither rate was tuned for training alone."
)
ALONE_UNKNOWN = (
    "Whether a hospital should join is not answered: one that stays alone and releases nothing "
    "needs no privacy, and no method without privacy has that yardstick (baselines: [local])."
)


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
        if row["metric"] != primary["metric"] or not found or row["verdict"] in UNDECIDED:
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
    """Yield who was worse off than alone, once for what is alike in several settings."""
    settings = tuple(content["settings"])
    metric = METRICS[content["primary"]["metric"]]
    gain = f"{'gain in' if metric.higher_is_better else 'reduction of'} {metric.title}"
    where: dict[tuple[str, str], list[str]] = {}
    for row in content["join"]:
        if row["site"] == POOLED and row["low"] is not None:
            said = (
                f"{100 * row['probability_of_harm']:.0f} % of sites "
                f"[{100 * row['harm_low']:.0f} %, {100 * row['harm_high']:.0f} %] were worse off "
                f"than {called(row, content)}; the mean {gain} was {row['gain_over_alone']:+.3f} "
                f"[{row['low']:+.3f}, {row['high']:+.3f}]."
            )
            where.setdefault((row["method"], said), []).append(row["setting"])
    for (method, said), alike in where.items():
        told = "" if tuple(alike) == settings else where_text("; ".join(alike), settings)
        yield f"With {method}{told} {said}"
    paid = {row.get("paid_as") is not None for row in content["join"]}
    if True in paid:
        yield TWO_WAYS_TO_BE_ALONE if False in paid else ALONE_UNKNOWN


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
