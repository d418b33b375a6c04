"""What a ledger comes to, in sentences for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from fedsim.privacy.balance import Account, Balance, Verdict
from fedsim.privacy.directed_rounding import rounded_down, rounded_up
from fedsim.privacy.trust import LOCAL_MODEL, OF_SERVER, TRUSTED, TRUSTED_WITH_LABELS
from fedsim.privacy.units import RELATIONS, UNITS

MOST_NAMED = 12
"""Sites that a sentence names."""


def summary(verdict: Verdict) -> str:
    """Return the epsilon of the federation, how much of it is rounding, and what others say."""
    account, bounds = verdict.account, verdict.bounds
    text = (
        f"Whole federation, {account.unit} level: epsilon {rounded_up(bounds.high, '.4f')}, that "
        f"of {account.site}"
    )
    if account.unit != "site":
        text += f"; a {UNITS[account.unit]} that is at two sites spends more"
    if math.isinf(bounds.high):
        return f"{text}."
    if not account.delta:
        return f"{text}; exactly, and at a delta of 0."
    checks = ", ".join(f"{name} {rounded_up(e, '.4f')}" for name, e in verdict.checks.items())
    gap = (
        "the difference is rounding"
        if bounds.close
        else "far below, as rounding adds up over so many releases: a cross-check that is too low "
        "by less goes unnoticed"
    )
    return (
        f"{text}; no accountant could say less than {rounded_down(bounds.low, '.4f')}, {gap}. "
        f"Cross-checks: {checks}."
    )


def together(found: Balance) -> Iterator[str]:
    """Yield what holds of units at several sites, and of units of several kinds."""
    if found.shared:
        worst, num = found.shared[0], sum(part.num_patients for part in found.shared)
        yield (
            f"{num} patients have images at several sites, whose releases compose: the most that "
            f"one of them spends is epsilon {rounded_up(worst.epsilon, '.4f')}, at "
            f"{' and '.join(worst.sites)}."
        )
    kinds = [verdict.account.unit for verdict in found.federation]
    if "label" in kinds and len(kinds) > 1:
        yield (
            "The epsilon of labels and that of other units are different promises, and neither is "
            "added to the other. That of labels holds against everybody who sees what was told of "
            "them, whoever trains included; to learn from it costs no label more. The other one "
            "holds against those who see the models, and not what was told of labels."
        )


def promise(account: Account) -> str:
    """Return in sentences what an epsilon promises."""
    name = UNITS[account.unit]
    by_server = OF_SERVER.intersection(account.purposes)
    what = "the models" if by_server else f"what {account.site} released"
    if math.isinf(account.epsilon):
        return f"No {name} is protected: something was released without noise."
    slack = f", plus {account.delta:g} (delta)" if account.delta else ""
    return (
        f"Take the data with one {name} and {RELATIONS[account.relation]}. Whatever is done with "
        f"{what}, and whatever set of outcomes one looks for, its probability in one case is at "
        f"most e^{rounded_up(account.epsilon, '.4g')} times that in the other{slack}. "
        f"{_trusted(account)} The noise of a simulation can be repeated by whoever has the "
        "scenario: the promise is that of the simulated mechanism."
    )


def named(sites: Sequence[str]) -> str:
    """Return the names of sites, or how many there are."""
    return ", ".join(sites) if len(sites) <= MOST_NAMED else f"{len(sites):,} sites"


def _trusted(account: Account) -> str:
    """Return who has to be trusted for an account's promise."""
    if account.unit == "label":
        return TRUSTED_WITH_LABELS
    return " ".join(dict.fromkeys(TRUSTED.get(p, TRUSTED[LOCAL_MODEL]) for p in account.purposes))
