"""What a ledger comes to, whoever releases: each site, or the server in the name of all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dp_accounting import dp_event

from fedsim.privacy.accounting import COARSE, Bounds, epsilon
from fedsim.privacy.attacks import Attack
from fedsim.privacy.balance import ALL_SITES, MOST_FINE, Verdict, balance
from fedsim.privacy.balance_words import promise, summary
from fedsim.privacy.events import history
from fedsim.privacy.ledger import Entry
from fedsim.privacy.trust import AGGREGATE, SECURE_SUM

GAUSSIAN = dp_event.GaussianDpEvent(2.0)
OF_ALL = Entry(1, None, AGGREGATE, "site", "replace_special", 8, "x", GAUSSIAN)
DELTA = 1e-3


def gaussians(num: int) -> float:
    return epsilon({GAUSSIAN: num}, DELTA)


def test_what_the_server_releases_costs_all_sites_alike() -> None:
    found = balance([OF_ALL, replace(OF_ALL, round=2), Entry(0, None, "losses")], DELTA)
    (account,) = found.accounts
    assert (account.site, account.num_units, account.num_rounds) == (ALL_SITES, 8, 2)
    assert account.epsilon == found.federation[0].bounds.high == gaussians(2)
    assert found.unprotected == ["losses"]


def test_a_site_spends_its_own_releases_and_those_of_all() -> None:
    own = replace(OF_ALL, site="a")
    found = balance([OF_ALL, own, replace(own, round=2), replace(own, site="b")], DELTA)
    assert {account.site: account.epsilon for account in found.accounts} == {
        ALL_SITES: gaussians(1),
        "a": gaussians(3),
        "b": gaussians(2),
    }
    assert found.federation[0].account.site == "a"


@pytest.mark.parametrize(
    ("purpose", "who"),
    [
        (AGGREGATE, "The server is trusted"),
        (SECURE_SUM, "Flower's SecAgg+"),
        ("local model", "The site itself is trusted"),
    ],
)
def test_it_is_said_who_has_to_be_trusted(purpose: str, who: str) -> None:
    found = balance([replace(OF_ALL, purpose=purpose, site="a")], DELTA)
    said = promise(found.accounts[0])
    assert who in said
    assert ("what a released" in said) == (purpose == "local model")
    assert "at two sites" not in summary(found.federation[0])  # a hospital is at one


def test_delta_is_added_to_a_probability_and_is_not_that_of_a_broken_promise() -> None:
    (account,) = balance([OF_ALL], DELTA).accounts
    said = promise(account)
    assert (
        "whatever set of outcomes one looks for, its probability in one case is at most e^" in said
    )
    assert "times that in the other, plus 0.001 (delta)." in said


def test_what_is_promised_is_rounded_up_and_what_is_possible_down() -> None:
    (account,) = balance([OF_ALL], DELTA).accounts
    account = replace(account, epsilon=1.00001)
    assert account.cells()[-1] == "1.0001"
    assert "at most e^1.001 times" in promise(account)
    bounds = Bounds(0.99999, 1.00001, 1e-4)
    said = summary(Verdict(account, bounds, {"RDP": 1.20001}, Attack(0.0, 0.0)))
    assert "epsilon 1.0001, that" in said
    assert "less than 0.9999, the difference is rounding." in said
    assert "RDP 1.2001" in said


def test_the_headline_is_the_largest_epsilon_however_coarse_those_of_the_sites_are() -> None:
    """Rounding adds to every step: of many steps coarse figures are far above the fine ones."""
    many = dp_event.PoissonSampledDpEvent(1e-3, dp_event.GaussianDpEvent(1.5))
    events = {"many": dp_event.SelfComposedDpEvent(many, 200_000)}
    events |= {f"one-{i}": dp_event.GaussianDpEvent(2.76 + 0.01 * i) for i in range(MOST_FINE + 1)}
    found = balance([replace(OF_ALL, site=site, event=e) for site, e in events.items()], 1e-5)
    (verdict,) = found.federation
    assert found.interval == COARSE
    assert epsilon(history([(events["many"], 1)]), 1e-5, COARSE) > verdict.bounds.high
    assert verdict.account.site == "one-0"
    assert verdict.bounds.high == max(epsilon(history([(e, 1)]), 1e-5) for e in events.values())
    assert verdict.bounds.high == max(account.epsilon for account in found.accounts)


def test_a_lower_bound_that_tells_little_is_no_mere_rounding() -> None:
    (account,) = balance([OF_ALL], DELTA).accounts
    said = summary(Verdict(account, Bounds(0.28, 1.28, 1e-4), {}, Attack(0.0, 0.0)))
    assert "less than 0.2800, far below" in said
    assert "goes unnoticed" in said
    assert "the difference is rounding" not in said
