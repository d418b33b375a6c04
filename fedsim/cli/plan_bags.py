"""Bag sizes in `fedsim plan`: what the theory of a linear model advises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedsim.cli.plan_fleet import BELOW

if TYPE_CHECKING:
    from fedsim.bag_theory.advice import Advice, Row

HEADINGS = ("bag size", "noise", "bias^2", "variance", "risk", "best rho", "its risk", "ridge")
WIDTH = max(map(len, HEADINGS)) + 2


def about_bags(advice: Advice) -> dict[str, str]:
    """Return what is printed, by title."""
    lines = ["by theory, for a linear model with squared loss", *advice.sentences]
    if advice.rows:
        lines += [_line(HEADINGS), *map(_row, advice.rows)]
    lines += [f"not of this scenario: {departure}" for departure in advice.departures]
    return {"bag size": BELOW.join(lines)}


def _row(row: Row) -> str:
    risks = (row.noise, row.bias2, row.variance, row.risk, row.best_rho, row.best_risk)
    return _line((str(row.bag_size), *map(_digits, (*risks, row.ridge_risk))))


def _line(cells: tuple[str, ...]) -> str:
    return "".join(f"{cell:>{WIDTH}}" for cell in cells)


def _digits(number: float | None) -> str:
    return "unbounded" if number is None else f"{number:.3g}"
