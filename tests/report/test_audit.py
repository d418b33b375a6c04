"""What an audit found, as it is printed."""

from __future__ import annotations

from dataclasses import asdict

from fedsim.audit.finding import Finding
from fedsim.report.audit import HEADINGS, cells


def test_what_a_ledger_allows_is_rounded_up_and_what_is_shown_down() -> None:
    found = Finding("f", "of", 0.5, claim=0.73204, epsilon=1.23459, ceiling=3.25001)
    printed = dict(zip(HEADINGS, cells(asdict(found)), strict=True))
    assert printed["by ledger"] == "0.7321"
    assert printed["epsilon >="] == "1.234"
    assert printed["up to"] == "3.251"


def test_what_is_exact_stays_as_it_is() -> None:
    printed = dict(zip(HEADINGS, cells(asdict(Finding("f", "of", 1.0, claim=2.268))), strict=True))
    assert printed["by ledger"] == "2.268"
    assert printed["up to"] == "\N{EN DASH}"
