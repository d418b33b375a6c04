"""What one test of an audit found, beside what the ledger says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Test = Literal["mechanism", "one-run", "membership", "inversion"]
TESTS: tuple[Test, ...] = ("mechanism", "one-run", "membership", "inversion")
"""In the order in which they are done: the quickest first."""
CONFIDENCE = 0.95
"""Of every interval."""
FAMILYWISE_ERROR = 0.01
"""Probability with which a correct run raises any alarm at all, about: images in one training are
taken for independent."""


@dataclass(frozen=True)
class Finding:
    """One figure.

    Args:
        figure: what it is.
        of: whose: sites, or the model.
        value: the estimate.
        low: lower end of its interval, with `CONFIDENCE`; None without one.
        high: upper end.
        claim: what stands beside it: what the ledger says, or allows at most.
        epsilon: lower bound on epsilon that it comes to, with `CONFIDENCE`; None if to none.
        ceiling: the largest such bound that this test can show.
        alarm: what cannot be, empty if nothing.
        note: what a reader must know.
    """

    figure: str
    of: str
    value: float
    low: float | None = None
    high: float | None = None
    claim: float | None = None
    epsilon: float | None = None
    ceiling: float | None = None
    alarm: str = ""
    note: str = ""

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data; JSON has no infinity, so that is null."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Outcome:
    """What a test came to.

    Args:
        findings: its figures, none if it does not apply.
        notes: how to read them, or why it does not apply.
        options: what decides its numbers beside the run.
        picture: name of the file with it, if there is one.
        png: the picture.
    """

    findings: list[Finding]
    notes: list[str]
    options: Mapping[str, int] = field(default_factory=dict)
    picture: str | None = None
    png: bytes | None = None

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "options": dict(self.options),
            "notes": self.notes,
            "picture": self.picture,
            "findings": [one.as_data() for one in self.findings],
        }


def does_not_apply(why: str) -> Outcome:
    """Return the outcome of a test that this run gives no occasion for."""
    return Outcome([], [f"Does not apply: {why}."])
