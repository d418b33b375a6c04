"""What private training costs, printed: of a plan, and of a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedsim.cli.streams import console

if TYPE_CHECKING:
    from fedsim.privacy.balance import Balance

SITES_SHOWN = 40


def print_balance(found: Balance) -> None:
    """Print epsilon site by site, what it means, and what is released beside it."""
    from rich.table import Table
    from rich.text import Text

    from fedsim.privacy.balance import HEADINGS
    from fedsim.privacy.balance_words import promise, summary, together

    shown = console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("site", "unit") else "right")
    for account in found.accounts[:SITES_SHOWN]:
        table.add_row(*map(Text, account.cells()))
    if len(found.accounts) > SITES_SHOWN:
        table.add_row(f"... {len(found.accounts) - SITES_SHOWN} more")
    shown.print("Privacy: epsilon by privacy loss distributions")
    shown.print(table)
    for verdict in found.federation:
        account = verdict.account
        attack = verdict.attack.text(account.unit, account.relation)
        for text in (summary(verdict), promise(account), attack):
            shown.print(Text(f"\n{text}"))
    for text in together(found):
        shown.print(Text(f"\n{text}"))
    if found.unprotected:
        shown.print("\nReleased without noise:")
        for purpose in found.unprotected:
            shown.print(Text(f"- {purpose}"))
