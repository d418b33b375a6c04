"""What a run's ledger comes to, for its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedsim.scenario.promises import delta_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedsim.privacy.balance import Balance
    from fedsim.records import RunRecord


def balance_of(record: RunRecord) -> Balance | None:
    """Return what the ledger comes to at the run's delta, None if nothing was to be private."""
    if not record.ledger:
        return None
    from fedsim.privacy.balance import balance
    from fedsim.privacy.ledger import entries

    shared = record.population.get("shared_patients", ())
    return balance(entries(record.ledger), delta_of(record.scenario), shared)


def table(found: Balance) -> tuple[Sequence[str], list[list[str]]]:
    """Return headings and rows of the table of accounts."""
    from fedsim.privacy.balance import HEADINGS

    return HEADINGS, [account.cells() for account in found.accounts]


def said(record: RunRecord, found: Balance) -> Iterator[str]:
    """Yield what a reader must know of the figures."""
    from fedsim.privacy.balance import promise, summary, together

    for verdict in found.federation:
        yield summary(verdict)
        yield promise(verdict.account)
        yield verdict.attack.text(verdict.account.unit, verdict.account.relation)
        yield from verdict.alarms()
    yield from together(found)
    if across := record.population["duplicates"]["across_sites"]:
        yield f"{across} images are at several sites, pixel for pixel: their epsilons add up."
    yield f"Released without noise: {'; '.join(found.unprotected)}."
