"""Who attacks is fixed by the scenario alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from fedsim.adversaries import LabelFlip, ScaledUpdate, SignFlip, choose, text
from fedsim.data.site_names import NumberedSites
from fedsim.seeds import Streams

NAMES = NumberedSites(10)


def test_named_sites_attack_from_their_round_on_in_the_order_given() -> None:
    flip = LabelFlip(sites=("site-03",), from_round=2)
    boost = ScaledUpdate(sites=("site-07", "site-03"), from_round=4, factor=5)
    attackers = choose((flip, boost), NAMES, Streams(0))
    assert [attackers.at(3, round) for round in (1, 2, 3, 4)] == [[], [flip], [flip], [flip, boost]]
    assert [attackers.at(7, round) for round in (3, 4, 99)] == [[], [boost], [boost]]
    assert not any(attackers.at(site, 99) for site in range(10) if site not in (3, 7))
    assert attackers.describe() == [
        {"kind": "label_flip", "from_round": 2, "sites": ["site-03"]},
        {"kind": "scaled_update", "from_round": 4, "sites": ["site-03", "site-07"]},
    ]


def test_a_share_is_drawn_among_those_that_nobody_has() -> None:
    parts = (SignFlip(share=0.3), LabelFlip(sites=("site-00", "site-01")), SignFlip(share=0.2))
    seen = np.zeros(10)
    for seed in range(300):
        first, named, second = choose(parts, NAMES, Streams(seed)).sites
        assert (len(first), named, len(second)) == (3, {0, 1}, 2)
        assert len(first | named | second) == 7
        seen[list(first)] += 1
    assert seen[:2].tolist() == [0, 0]
    assert chisquare(seen[2:]).pvalue > 0.01
    again = choose(parts, NAMES, Streams(5)).sites
    assert again == choose(parts, NAMES, Streams(5)).sites
    assert again != choose(parts, NAMES, Streams(6)).sites


def test_sites_that_are_held_out_are_passed_over() -> None:
    part = SignFlip(sites=("site-03", "site-04"))
    described = choose(
        (part,), [name for name in NAMES if name != "site-03"], Streams(0)
    ).describe()
    assert described[0]["sites"] == ["site-04"]
    assert text(described, 9) == "1 of 9 sites attacks: sign_flip from round 1 (site-04)"
    gone = choose((part,), ["site-00", "site-01"], Streams(0)).describe()
    assert text(gone, 2) == "0 of 2 sites attack: sign_flip from round 1 (held out)"


@pytest.mark.parametrize("num", [6, 8])
def test_a_sentence_names_a_few(num: int) -> None:
    described = [{"kind": "sign_flip", "from_round": 1, "sites": [f"s{n}" for n in range(num)]}]
    said = text(described, 40)
    assert "(s0, s1, s2, s3, s4, s5" in said
    assert (" and 2 more)" in said) == (num == 8)


def test_a_million_sites_cost_little() -> None:
    attackers = choose((SignFlip(share=0.1),), NumberedSites(1_000_000), Streams(0))
    assert len(attackers.sites[0]) == 100_000
