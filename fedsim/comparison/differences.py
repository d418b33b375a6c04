"""Every method against the reference, in every setting and metric: numbers, verdict, sentence.

A family is all comparisons of one metric: methods without the reference (or those that the study
calls confirmatory) times settings, as planned, whatever became of their runs. Within it Holm's
correction and simultaneous intervals hold the family-wise level. Other methods have their
difference and an interval that is not corrected, and neither test nor verdict. The primary metric's
family is what the study is for; those of other metrics are exploratory, each corrected within
itself alone, and know no smallest difference of interest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clients.metrics import METRICS
from fedsim.comparison.paired import Paired, compare_pairs, holm
from fedsim.comparison.power import detectable_difference, seeds_needed
from fedsim.comparison.primary import Primary
from fedsim.comparison.values import Values
from fedsim.comparison.verdicts import Question, Reach, describe, judge

TIE_BELOW = 0.001
"""Absolute differences below this, the last digit of tables, are ties."""


def differences(values: Values, primary: Primary) -> list[dict[str, Any]]:
    """Return a row per metric, setting and method, as plain data; see `fedsim.comparison`."""
    return [
        row
        for metric in values.metrics
        for rows in (_family(values, primary, metric), _described(values, primary, metric))
        for row in rows
    ]


def where_text(setting: str, settings: tuple[str, ...]) -> str:
    """Return a setting as it ends a clause, nothing where there is one alone."""
    return f" ({setting})" if len(settings) > 1 else ""


def planned(values: Values, primary: Primary) -> list[tuple[str, str]]:
    """Return the comparisons of one family: setting and method."""
    return [
        (setting, method)
        for setting in values.settings
        for method in values.methods
        if primary.tests(method)
    ]


def _described(values: Values, primary: Primary, metric: str) -> list[dict[str, Any]]:
    """Return the rows of the methods that are in no family."""
    higher = METRICS[metric].higher_is_better
    rows = []
    for setting in values.settings:
        for method in values.methods:
            if method == primary.reference or primary.tests(method):
                continue
            pairs = compare_pairs(
                values.differences(setting, method, primary.reference, metric),
                higher_is_better=higher,
                tie_below=TIE_BELOW,
                confidence=primary.confidence,
            )
            question = Question(
                method,
                primary.reference,
                METRICS[metric].title,
                where_text(setting, values.settings),
                higher,
                None,
                primary.alpha,
            )
            verdict, sentence = describe(question, pairs)
            untested = {"p": None, "p_adjusted": None, "p_exact": None}
            said = {"verdict": verdict, "sentence": sentence}
            of = {"setting": setting, "method": method, "metric": metric}
            rows.append(_row(of, pairs, primary.confidence, untested, said))
    return rows


def _family(values: Values, primary: Primary, metric: str) -> list[dict[str, Any]]:
    family = planned(values, primary)
    alpha, higher = primary.alpha, METRICS[metric].higher_is_better
    each = alpha / max(len(family), 1)
    limit = primary.smallest_difference if metric == primary.metric else None
    found = [
        compare_pairs(
            values.differences(setting, method, primary.reference, metric),
            higher_is_better=higher,
            tie_below=TIE_BELOW,
            confidence=1 - each,
        )
        for setting, method in family
    ]
    rows = []
    adjusted = holm([pairs.p for pairs in found])
    for (setting, method), pairs, p_adjusted in zip(family, found, adjusted, strict=True):
        question = Question(
            method,
            primary.reference,
            METRICS[metric].title,
            where_text(setting, values.settings),
            higher,
            limit,
            alpha,
        )
        reach = _reach(pairs.sd, pairs.num_pairs, limit, each, primary.power)
        verdict, sentence = judge(question, pairs, p_adjusted, reach)
        tested = {"p": pairs.p, "p_adjusted": p_adjusted, "p_exact": pairs.p_exact}
        said = {"verdict": verdict, "sentence": sentence}
        of = {"setting": setting, "method": method, "metric": metric}
        rows.append(_row(of, pairs, 1 - each, tested, said))
    return rows


def _row(
    of: Mapping[str, Any],
    pairs: Paired,
    confidence: float,
    test: Mapping[str, Any],
    said: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what is recorded of a comparison, in the order of the format."""
    return {
        **of,
        "num_pairs": pairs.num_pairs,
        "mean": pairs.mean,
        "sd": pairs.sd,
        "low": pairs.low,
        "high": pairs.high,
        "confidence": confidence,
        **test,
        "wins": pairs.wins,
        "ties": pairs.ties,
        "losses": pairs.losses,
        **said,
    }


def _reach(
    sd: float | None, num_pairs: int, limit: float | None, alpha: float, power: float
) -> Reach:
    if sd is None or limit is None:
        return Reach(None, None, power)
    return Reach(
        detectable_difference(sd, num_pairs, alpha, power),
        seeds_needed(sd, limit, alpha, power),
        power,
    )
