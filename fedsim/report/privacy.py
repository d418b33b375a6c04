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


def stopped(record: RunRecord) -> Iterator[str]:
    """Yield whose budget was spent before the last round, and when."""
    from fedsim.privacy.balance_words import named

    first: dict[str, int] = {}
    for row in record.rounds:
        for site in row.get("out_of_budget") or ():
            first.setdefault(site, row["round"])
    for round in sorted(set(first.values())):
        sites = [site for site, since in first.items() if since == round]
        privacy = record.scenario["privacy"]
        shared = record.population.get("shared_patients")
        patients = shared and privacy["mechanism"]["kind"] == "patient_level"
        whose = ", for patients at several sites too" if patients else ""
        yield (
            f"Budget spent (epsilon {privacy['budget']['epsilon']:g}{whose}): nothing was released "
            f"of {named(sites)} from round {round} on."
        )


def table(found: Balance) -> tuple[Sequence[str], list[list[str]]]:
    """Return headings and rows of the table of accounts."""
    from fedsim.privacy.balance import HEADINGS

    return HEADINGS, [account.cells() for account in found.accounts]


def said(record: RunRecord, found: Balance) -> Iterator[str]:
    """Yield what a reader must know of the figures."""
    from fedsim.privacy.balance_words import promise, summary, together

    for verdict in found.federation:
        yield summary(verdict)
        yield promise(verdict.account)
        yield verdict.attack.text(verdict.account.unit, verdict.account.relation)
        yield from verdict.alarms()
    yield from together(found)
    if not found.federation:
        yield "Nothing was released with noise: no site trained."
    yield from stopped(record)
    hidden = {verdict.account.unit for verdict in found.federation} - {"site", "label"}
    if hidden and (num := record.population["duplicates"]["num_groups"]):
        yield (
            f"{num} images are in the data more than once, pixel for pixel, and the ledger counts "
            "every copy by itself: what trains at several sites spends the epsilons of all of "
            "them, and two copies in the training of one site more than twice its epsilon."
        )
    yield f"Released without noise: {'; '.join(found.unprotected)}."
