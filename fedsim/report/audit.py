"""What an audit found, in words and cells, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedsim.privacy.directed_rounding import rounded_down, rounded_up

HEADINGS = ("figure", "of", "found", "95 % interval", "by ledger", "epsilon >=", "up to", "")
TITLES = {
    "mechanism": "Mechanism: is the noise there?",
    "one-run": "One-run auditing: which canaries were there?",
    "membership": "Membership: which images were trained on?",
    "inversion": "Inversion: what a server sees of one image",
}
ALLOWED = {"epsilon": ".4g", "advantage": ".3f", "true_positive_rate": ".3f"}
"""What a ledger allows -> digits in which that is printed."""
ALARM = "ALARM"
DASH = "\N{EN DASH}"


def title(test: str) -> str:
    """Return the heading of a test."""
    return TITLES.get(test, test)


def cells(finding: Mapping[str, Any]) -> list[str]:
    """Return what stands under `HEADINGS`."""
    return [
        finding["figure"],
        finding["of"],
        _number(finding["value"]),
        _interval(finding),
        _at_most(finding["claim"]),
        DASH if finding["epsilon"] is None else rounded_down(finding["epsilon"], ".4g"),
        _at_most(finding["ceiling"]),
        ALARM if finding["alarm"] else "",
    ]


def remarks(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a reader must know of a test and its figures."""
    yield from outcome["notes"]
    for finding in outcome["findings"]:
        if finding["note"]:
            yield f"{finding['figure']}, {finding['of']}: {finding['note']}."


def accounted(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the ledger allows, and how sure alarms are."""
    for verdict in content["accounted"]:
        epsilon, advantage, true_rate = (
            "infinite" if verdict[key] is None else rounded_up(verdict[key], digits)
            for key, digits in ALLOWED.items()
        )
        yield (
            f"By the ledger, {verdict['unit']} level: epsilon {epsilon} at delta "
            f"{verdict['delta']:g} ({verdict['site']}); no attack has an advantage (TPR - FPR) "
            f"above {advantage}, nor at a false positive rate of 1 % a true one "
            f"above {true_rate}."
        )
    if not content["accounted"]:
        yield "Nothing was released with noise: no ledger bounds what attacks find out."
    yield (
        f"Intervals have a confidence of {100 * content['confidence']:.0f} %. A correct run raises "
        f"an alarm with a probability of about {100 * content['familywise_error']:g} %."
    )


def _interval(finding: Mapping[str, Any]) -> str:
    ends = [finding["low"], finding["high"]]
    return DASH if ends == [None, None] else " to ".join(map(_number, ends))


def _at_most(value: float | None) -> str:
    return DASH if value is None else rounded_up(value, ".4g")


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.4g}"
