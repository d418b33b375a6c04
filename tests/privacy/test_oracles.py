"""Every value of other implementations that a mechanism of ours covers, and why others are not.

Tight values are met to 1e-3. Where other software gives a looser bound of the same thing, ours has
to be below it and is compared with the tight one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dp_accounting import dp_event, get_epsilon_gaussian
from opacus.accountants.analysis.rdp import compute_rdp
from scipy.stats import binom

from fedsim.privacy.accounting import COARSE, deltas, epsilon
from fedsim.privacy.cross_checks import (
    GDP,
    LARGEST_OF_PRV,
    OPACUS_PRV,
    OPACUS_RDP,
    RDP,
    cross_checks,
)
from fedsim.privacy.events import History, history
from fedsim.privacy.matrix_factorisation import depth

Row = Mapping[str, Any]
Known = dict[str, Row]

LEFT_OUT = {
    "conv_replace_one_z1_RDP": "deliberately wrong: the sensitivity is not doubled",
    "double_naive_product": "deliberately wrong: noise is in the client, which hides no cohort",
    "double_mixture": "hidden participation is not claimed: rounds of a site are counted",
    "wor_rdp_": "no amplification is claimed for cohorts of a fixed size",
    "poisson_replaceone_": "no mechanism of ours samples and replaces",
    "trunc_poisson": "no mechanism of ours truncates a batch",
    "tuning_": "what was tried before a run is in no ledger, and the documentation says so",
    "mc_": "a profile, below",
    "abadi2016_classic": "a conversion that nobody should use, below",
}
"""Beginnings of the ids of rows that no mechanism of ours stands for."""

KINDS = (
    ("gauss", "analytic", "fl_"),
    ("tfp", "abadi", "opacus", "msr"),
    ("de2022", "silo", "mcmahan"),
    ("laplace", "subsampled", "rr"),
    ("tree", "bandmf", "conv", "poisson", "hetero", "untrunc", "double"),
)
"""Beginnings of the ids of the others; groups of images have a test of their own."""


def gaussian(noise: float, rate: float, num: int) -> History:
    step = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
    return history([(step, num)])


def events_of(row: Row) -> History:
    """Return what a ledger of ours would have of a row's releases."""
    name, num = row["id"], row.get("steps", row.get("T", 1))
    if name.startswith(("laplace_", "subsampled_laplace")):
        noise = dp_event.LaplaceDpEvent(row["b"])
        return history([(dp_event.PoissonSampledDpEvent(row.get("q", 1), noise), num)])
    if name.startswith("rr_"):
        return history([(dp_event.RandomizedResponseDpEvent(row["p"], row["k"]), 1)])
    if name.startswith("tree_"):
        return gaussian(row["noise_multiplier"] / math.sqrt(depth(num)), 1, 1)
    if name.startswith("bandmf_"):
        return gaussian(row["noise_multiplier"], row["q"], num)
    if name == "conv_replace_one_z1_PLD":
        return gaussian(row["noise_multiplier"] / 2, 1, 1)
    if name.startswith("poisson_addremove_"):
        return gaussian(row["noise_over_clip"], row["q"], num)
    if name.startswith("hetero_"):
        parts = [gaussian(*part) for part in row["history"]]
        return {event: count for part in parts for event, count in part.items()}
    if name == "untrunc_poisson_q.01_T128_z1":
        return gaussian(1.0, 0.01, 128)
    if name.startswith("double_realised_"):
        return gaussian(1.0, 0.1, num)
    if name.startswith("group_"):
        shares = tuple(binom.pmf(range(row["k"] + 1), row["k"], row["q"]))
        sums = tuple(map(float, range(row["k"] + 1)))
        return history([(dp_event.MixtureOfGaussiansDpEvent(row["sigma"], sums, shares), num)])
    return gaussian(row["sigma"], row["q"], num)


def tight(row: Row) -> float:
    """Return the tightest value that a row has."""
    value = row["epsilon"]
    return float(row.get("tight_gaussian", value["oracle"] if isinstance(value, dict) else value))


def is_left_out(name: str) -> bool:
    return any(name.startswith(start) for start in LEFT_OUT)


@pytest.fixture(scope="module")
def covered(known: Known) -> Known:
    return {name: row for name, row in known.items() if not is_left_out(name)}


def test_every_row_is_covered_or_left_out_for_a_reason(known: Known, covered: Known) -> None:
    for start in LEFT_OUT:
        assert any(name.startswith(start) for name in known), start
    assert len(known) == 95
    assert len(covered) == 77
    starts = ("group_", *(start for kind in KINDS for start in kind))
    assert [name for name in covered if not name.startswith(starts)] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
def test_epsilon_is_what_other_implementations_found(covered: Known, kind: tuple[str, ...]) -> None:
    rows = [row for name, row in covered.items() if name.startswith(kind)]
    assert rows
    for row in rows:
        pure = "delta" not in row or row["delta"] == 0
        found = epsilon(events_of(row), 1e-12 if pure else row["delta"])
        assert found == pytest.approx(tight(row), abs=1e-3), row
        other = row["epsilon"]
        assert found <= (other if isinstance(other, float) else other["dpa_rdp"]) + 1e-3, row


@pytest.mark.slow
def test_groups_of_images_cost_no_more_than_other_implementations_found(covered: Known) -> None:
    """Theirs is at a coarse interval, ours may be tighter; of groups of one it is the epsilon."""
    rows = [row for name, row in covered.items() if name.startswith("group_")]
    assert len(rows) == 4
    for row in rows:
        found = epsilon(events_of(row), row["delta"], COARSE)
        assert 0.998 * row["epsilon"] < found < row["epsilon"] + 1e-3, row
    alone = epsilon(gaussian(1.0, 0.01, 1000), 1e-5)
    assert epsilon(events_of(rows[0]), 1e-5, COARSE) == pytest.approx(alone, abs=1e-3)


@pytest.mark.slow
def test_cross_checks_are_what_other_implementations_found(covered: Known) -> None:
    rows = [row for row in covered.values() if isinstance(row["epsilon"], dict)]
    assert len(rows) == 29
    for row in rows:
        said = row["epsilon"]
        expected = {RDP: said["dpa_rdp"], OPACUS_RDP: said["opacus_rdp"]}
        if said["dpa_rdp"] <= LARGEST_OF_PRV:
            expected[OPACUS_PRV] = said["opacus_prv_upper"]
        if row["q"] < 1:
            expected[GDP] = said["opacus_gdp_NOT_A_BOUND"]
        found = cross_checks(events_of(row), row["delta"])
        assert found == pytest.approx(expected, abs=1e-3), row["id"]
        assert said["oracle"] <= found[OPACUS_RDP] <= found[RDP] + 5e-4
        if OPACUS_PRV in found:
            most = max(0.015, 1e-3 * said["oracle"])
            assert said["oracle"] <= found[OPACUS_PRV] <= said["oracle"] + most


def test_published_values_are_those_of_the_old_conversion(known: Known) -> None:
    """Of Renyi divergences: Mironov 2017, proposition 3. They are bounds, and above ours."""
    orders = np.array([1 + x / 10 for x in range(1, 100)] + list(range(11, 64)))
    for name in ("tfp_mnist_s1.12_e60", "tfp_mnist_s0.6_e30", "tfp_mnist_s1.2_e10"):
        row = known[name]
        curve = compute_rdp(
            q=row["q"], noise_multiplier=row["sigma"], steps=row["T"], orders=orders
        )
        old = float(np.min(curve - np.log(row["delta"]) / (orders - 1)))
        assert old == pytest.approx(row["classic"], abs=0.02)
        assert old == pytest.approx(row["published_classic"], abs=0.03)
        assert epsilon(events_of(row), row["delta"]) < old - 0.3
    row, whole = known["abadi2016_classic_conversion"], np.arange(2, 65)
    curve = compute_rdp(q=row["q"], noise_multiplier=row["sigma"], steps=row["T"], orders=whole)
    old = float(np.min(curve - np.log(row["delta"]) / (whole - 1)))
    assert old == pytest.approx(row["epsilon"], abs=1e-3)
    assert round(old, 2) == 1.26


@pytest.mark.slow
def test_renyi_values_of_other_tests_come_out(covered: Known) -> None:
    rows = [row for row in covered.values() if "fl4health_expected_rdp" in row]
    assert len(rows) == 5
    for row in rows:
        found = cross_checks(events_of(row), row["delta"])[RDP]
        assert found == pytest.approx(row["fl4health_expected_rdp"], rel=1e-3)


def test_the_profile_is_that_of_other_implementations(known: Known) -> None:
    rows = [row for name, row in known.items() if name.startswith("mc_")]
    assert len(rows) == 3
    found = deltas(gaussian(1.0, 0.1, 100), [row["epsilon"] for row in rows])
    for row, delta in zip(rows, found, strict=True):
        assert delta == pytest.approx(row["delta_pld"], rel=1e-3)
        assert abs(delta - row["delta_mc"]) < 4 * row["delta_mc_se"]


def test_wrong_values_are_not_ours(known: Known) -> None:
    product, twice = known["double_naive_product"], known["conv_replace_one_z1_RDP"]
    assert epsilon(gaussian(1.0, 0.1, 100), product["delta"]) > 3 * product["epsilon"]
    assert epsilon(gaussian(0.5, 1, 1), twice["delta"]) > 2 * twice["epsilon"]


def test_local_noise_by_the_classic_formula_is_seen_through(oracles: Path) -> None:
    """sqrt(2 ln(1.25 / delta)) / epsilon is proved below 1, and promises too much at 10."""
    rows = _convention_checks(oracles)["flower_local_dp_mod"]
    for row in rows:
        noise, delta = row["sigma_over_sensitivity"], row["delta"]
        true = epsilon({dp_event.GaussianDpEvent(noise): 1}, delta)
        assert true == pytest.approx(get_epsilon_gaussian(noise, delta), abs=1e-3)
        assert (true > row["claimed_eps"]) == (row["claimed_eps"] >= 10)


def test_a_cohort_of_a_fixed_size_is_not_accounted_as_a_poisson_sample(oracles: Path) -> None:
    """Sigma is 2 C, half as much noise where one site is replaced by another."""
    row = _convention_checks(oracles)["wor_bracket"]
    single, half = dp_event.GaussianDpEvent(2.0), dp_event.GaussianDpEvent(1.0)
    sample = {dp_event.PoissonSampledDpEvent(0.1, half): 100}
    assert epsilon(sample, 1e-3) == pytest.approx(row["lower"], abs=1e-3)
    wrong = {dp_event.PoissonSampledDpEvent(0.1, single): 100}
    assert epsilon(wrong, 1e-3) == pytest.approx(row["wrong_poisson_claim"], abs=1e-3)
    ours = epsilon({single: 10}, 1e-3)  # of a site that is drawn as often as others
    assert 3 * row["wrong_poisson_claim"] < ours
    assert epsilon({half: 10}, 1e-3) > row["lower"]


def _convention_checks(oracles: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((oracles / "privacy" / "oracles.json").read_text())
    checks: dict[str, Any] = content["convention_checks"]
    return checks
