"""Mechanisms on client updates: events against oracles, and sites that add their own noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import dp_event, get_epsilon_gaussian
from hypothesis import given
from hypothesis import strategies as st

from clients.training import Plan
from fedsim.privacy import ClientLevel, Distributed, Local, Mechanism
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.calibration import least_noise
from fedsim.privacy.clipping import noisy_model
from fedsim.privacy.events import History, history
from fedsim.privacy.mechanism import Setting
from fedsim.privacy.private_mean import SecureSum

Known = dict[str, dict[str, Any]]
NUMBERS = st.floats(-1e6, 1e6, width=32)


def made(mechanism: Mechanism, rate: float, rounds: int, noise: float | None = None) -> History:
    """Return what so many rounds of a mechanism are composed of."""
    setting = Setting(100, Plan(batch_size=8, epochs=1), rate, rounds)
    z = mechanism.noise_multiplier if noise is None else noise
    assert z != "auto"
    return history([(mechanism.release(z, setting).event(), rounds)])


@pytest.mark.parametrize(
    "name",
    [
        "fl_full_z5_T50_d1e-2",
        "fl_full_z10_T100_d1e-3",
        "fl_q0.1_z1_T100_d1e-3",
        "fl_q0.1_z0.5_T100_d1e-3",
        "fl_q0.2_z1_T50_d1e-2",
        "fl_q0.5_z2_T20_d1e-2",
        "fl_q0.01_z1_T1000_d1e-6",
    ],
)
def test_client_level_has_the_epsilon_of_other_implementations(known: Known, name: str) -> None:
    row = known[name]
    mechanism = ClientLevel(noise_multiplier=row["sigma"])
    found = epsilon(made(mechanism, row["q"], row["steps"]), row["delta"])
    assert found == pytest.approx(row["epsilon"]["oracle"], rel=1e-3)


def test_local_noise_counts_twice_the_clip(known: Known) -> None:
    """Under replace-one 9.997 is true; an accountant that does not double says 4.73."""
    local = Local(noise_multiplier=1.0)
    found = epsilon(made(local, 1.0, 1), 1e-5)
    assert found == pytest.approx(known["conv_replace_one_z1_PLD"]["epsilon"], rel=1e-4)
    assert found > 2 * known["conv_replace_one_z1_RDP"]["epsilon"]


@pytest.mark.parametrize("target", [0.5, 3.0, 10.0])
def test_local_noise_is_that_of_the_analytic_gaussian(target: float) -> None:
    """The classic formula holds below epsilon 1 alone: at 10 its noise spends 10.39."""
    local = Local(noise_multiplier="auto")
    noise = least_noise(lambda z: made(local, 1.0, 4, z), target, 1e-5)
    at_once = noise / 2 / math.sqrt(4)
    assert get_epsilon_gaussian(at_once, 1e-5) == pytest.approx(target, rel=2e-3)
    assert get_epsilon_gaussian(at_once, 1e-5) <= target


def test_without_noise_nobody_is_protected() -> None:
    for mechanism in (
        ClientLevel(noise_multiplier=0.0),
        Local(noise_multiplier=0.0),
        Distributed(noise_multiplier=0.0, min_survivors=2),
    ):
        assert math.isinf(epsilon(made(mechanism, 1.0, 1), 1e-5))


@given(
    st.lists(NUMBERS | st.sampled_from([math.nan, math.inf]), min_size=4, max_size=4),
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.floats(1e-3, 1e3),
)
def test_two_updates_of_a_site_are_2_c_apart_at_most(
    one: list[float], other: list[float], clip_norm: float
) -> None:
    zero = {"w": torch.zeros(4, dtype=torch.float64)}
    found = [
        noisy_model(
            zero,
            {"w": torch.tensor(values, dtype=torch.float64)},
            clip_norm,
            0.0,
            torch.Generator(),
        )["w"].numpy()
        for values in (one, other)
    ]
    assert all(np.linalg.norm(values) <= clip_norm * (1 + 1e-12) for values in found)
    assert np.linalg.norm(found[0] - found[1]) <= 2 * clip_norm * (1 + 1e-12)


def test_a_site_adds_the_noise_that_is_said_and_an_update_that_is_no_number_is_zero() -> None:
    start = {"w": torch.full((40_000,), 3.0)}
    for value in (3.0, math.nan):
        noise = noisy_model(
            start, {"w": torch.full((40_000,), value)}, 1.0, 0.7, torch.Generator().manual_seed(1)
        )["w"]
        assert noise.dtype == torch.float32
        assert float((noise - 3).std()) == pytest.approx(0.7, rel=0.015)
        assert float((noise - 3).mean()) == pytest.approx(0, abs=0.015)


def test_shares_of_the_least_survivors_make_up_the_noise_that_the_ledger_has() -> None:
    share = Distributed(clip_norm=2.0, noise_multiplier=1.5, min_survivors=9).release(
        1.5, Setting(12, Plan(batch_size=8, epochs=1))
    )
    assert share.std * math.sqrt(9) == pytest.approx(1.5 * 2.0)
    assert share.event() == dp_event.GaussianDpEvent(1.5)
    mean = SecureSum(12, 9)
    mean.begin({"w": torch.zeros(20_000, dtype=torch.float64)})
    for site in range(9):
        assert not mean.suffices
        zero = {"w": torch.zeros(20_000, dtype=torch.float64)}
        generator = torch.Generator().manual_seed(site)
        mean.take(noisy_model(zero, zero, share.clip_norm, share.std, generator))
    assert mean.suffices
    assert float(mean.release(1)["w"].std()) == pytest.approx(1.5 * 2.0 / 12, rel=0.02)
