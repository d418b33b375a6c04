"""What the figures of a study show, in words for those who cannot see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clients.metrics import METRICS
from fedsim.report.study.learning import Curve
from fedsim.report.tables import number


def of_forest(comparison: Mapping[str, Any]) -> str:
    """Return the differences in the primary metric."""
    primary = comparison["primary"]
    words = [
        f"{row['method']} in {row['setting']} {row['mean']:+.3f}, {row['verdict']}"
        for row in comparison["differences"]
        if row["metric"] == primary["metric"] and row["mean"] is not None
    ]
    return (
        f"Forest plot of the differences to {primary['reference']} in "
        f"{METRICS[primary['metric']].title} with their intervals: {'; '.join(words)}."
    )


def of_curves(curves: Mapping[str, Curve], comparison: Mapping[str, Any]) -> str:
    """Return where the learning curves of a setting end."""
    title = METRICS[comparison["primary"]["metric"]].title
    ends = ", ".join(f"{method} {curve.mean[-1]:.3f}" for method, curve in curves.items())
    return f"Lines of {title} on validation images by method, mean over seeds. At the end: {ends}."


def of_joining(rows: Sequence[Mapping[str, Any]], comparison: Mapping[str, Any], alone: str) -> str:
    """Return between what the gains of the sites lie."""
    gains = [row["gain_over_alone"] for row in rows if row["gain_over_alone"] is not None]
    span = f" from {min(gains):+.3f} to {max(gains):+.3f}" if gains else ""
    return (
        f"Dots with intervals of what each site gains over training {alone}, by method, in "
        f"{METRICS[comparison['primary']['metric']].title}:{span}."
    )


def of_decision_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the net benefits at the threshold in the middle."""
    middle = len(rows[0]["thresholds"]) // 2
    words = ", ".join(f"{row['method']} {number(row['net_benefit'][middle])}" for row in rows)
    return (
        "Decision curves: net benefit by the probability from which on one treats. At "
        f"{rows[0]['thresholds'][middle]:g}: {words}, treating everybody "
        f"{number(rows[0]['treat_all'][middle])}."
    )
