"""The tables of docs/bag_theory.md are what the code computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsim.bag_theory.bag_size import laplace_variance, optimal_bag_size, optimal_rho
from fedsim.bag_theory.linear_risk import asymptotic_risk, easy_llp_risk, ridge_risk

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bag_theory.md"


def table(first: str) -> list[list[str]]:
    """Return the cells below the heading whose first cell is this."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text[text.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def digits(number: float) -> str:
    return "none" if number == float("inf") else f"{number:.3g}"


@pytest.mark.parametrize("row", table("k"), ids=lambda row: f"k={row[0]}")
def test_risks_without_noise_in_the_aggregates(row: list[str]) -> None:
    k, known = int(row[0]), {"ratio": 10, "signal": 1, "noise": 0.5}
    best = optimal_rho(k, **known)
    risks = [float(asymptotic_risk(k, rho, **known).total) for rho in (0, 0.1, 1, best)]
    assert row[1:] == [
        *map(digits, risks[:3]),
        "any" if k == 1 else digits(best),
        digits(risks[3]),
        digits(float(easy_llp_risk(k, **known).total)),
        digits(float(ridge_risk(k, **known))),
    ]


@pytest.mark.parametrize("row", table("epsilon"), ids=lambda row: f"epsilon={row[0]}")
def test_best_sizes_with_noise(row: list[str]) -> None:
    noise, known = laplace_variance(float(row[0]), 6), {"ratio": 20, "signal": 1}
    sizes = range(1, 129)
    found = [
        optimal_bag_size(sizes, rho, noise=0.5, sum_noise=noise, **known)
        for rho in (0.0, 0.1, 1.0, None)
    ]
    joint = found[-1]
    rho = "" if joint.bag_size == 1 else f", {joint.rho:.2g}"
    assert row[1:] == [
        *(f"{best.bag_size}: {digits(best.risk)}" for best in found[:3]),
        f"{joint.bag_size}{rho}: {digits(joint.risk)}",
        digits(float(ridge_risk(1, noise=0.5 + noise, **known))),
    ]


def test_there_is_something_to_check() -> None:
    assert (len(table("k")), len(table("epsilon"))) == (6, 5)
