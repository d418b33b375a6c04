"""Noisy means of clipped updates: sensitivity, noise, and a bound that follows the norms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from fedsim.privacy.adaptive_clip import AdaptiveClip
from fedsim.privacy.private_mean import NoisyMean
from fedsim.seeds import Streams

STREAMS = Streams(5)
Update = dict[str, Tensor]
NUMBERS = st.floats(-1e6, 1e6, width=32)
UPDATES = st.lists(st.lists(NUMBERS, min_size=5, max_size=5), min_size=1, max_size=6)


def update(values: Sequence[float]) -> Update:
    """An update of two parameters, the first of three values."""
    wide = torch.tensor(values, dtype=torch.float64)
    return {"a": wide[:3].reshape(3, 1), "b": wide[3:]}


def flat(found: Update) -> NDArray[np.float64]:
    return np.concatenate([value.ravel().numpy() for value in found.values()])


def released(mean: NoisyMean, updates: Sequence[Sequence[float]], round: int = 1) -> Update:
    length = len(updates[0]) if updates else 5
    mean.begin(update([0.0] * length))
    for values in updates:
        mean.take(update(values))
    return mean.release(round)


@given(
    UPDATES,
    st.lists(NUMBERS | st.sampled_from([math.nan, math.inf]), min_size=5, max_size=5),
    st.floats(1e-3, 1e3),
    st.integers(1, 50),
)
def test_one_site_moves_the_mean_by_no_more_than_c_over_d(
    others: list[list[float]], values: list[float], clip_norm: float, num_expected: int
) -> None:
    with_it, without = (
        flat(released(NoisyMean(clip_norm, 0.0, num_expected, STREAMS), updates))
        for updates in ([*others, values], [*others, [0.0] * 5])
    )
    rounding = 1e-12 * clip_norm * len(others)
    assert np.linalg.norm(with_it - without) <= (clip_norm + rounding) / num_expected


def test_an_update_that_is_not_finite_and_one_that_never_came_count_as_zero() -> None:
    values = [0.3, -0.1, 0.2, 0.0, 0.4]
    expected = flat(released(NoisyMean(1.0, 2.0, 4, STREAMS), [values]))
    for broken in (math.nan, math.inf, -math.inf):
        found = released(NoisyMean(1.0, 2.0, 4, STREAMS), [values, [broken, *values[1:]]])
        assert np.array_equal(flat(found), expected)
    zero = released(NoisyMean(1.0, 2.0, 4, STREAMS), [values, [0.0] * 5])
    assert np.array_equal(flat(zero), expected)


def test_without_noise_short_updates_give_their_plain_mean() -> None:
    updates = np.random.default_rng(0).normal(size=(4, 5))
    found = released(NoisyMean(1e3, 0.0, 4, STREAMS), updates.tolist())
    assert flat(found) == pytest.approx(updates.mean(axis=0), abs=1e-15)


def test_rounds_have_noise_of_their_own_and_of_the_size_that_is_said() -> None:
    size = 40_000
    mean = NoisyMean(0.5, 3.0, 7, STREAMS)
    found = np.stack([flat(released(mean, [[0.0] * size], round)) for round in (1, 2, 3)])
    expected = 3.0 * 0.5 / 7
    assert found.std(axis=1) == pytest.approx(expected, rel=4 / math.sqrt(2 * size))
    assert np.abs(found.mean(axis=1)).max() < 4 * expected / math.sqrt(size)
    assert np.abs(np.corrcoef(found) - np.eye(3)).max() < 4 / math.sqrt(size)
    kurtosis = (found**4).mean() / (found**2).mean() ** 2
    assert kurtosis == pytest.approx(3, abs=0.1)  # of Laplace noise it is 6
    again = flat(released(NoisyMean(0.5, 3.0, 7, STREAMS), [[0.0] * size], 2))
    assert np.array_equal(again, found[1])
    other = flat(released(NoisyMean(0.5, 3.0, 7, Streams(6)), [[0.0] * size], 2))
    assert abs(np.corrcoef(other, found[1])[0, 1]) < 4 / math.sqrt(size)


def test_the_bound_follows_the_paper_step_by_step() -> None:
    """Algorithm 1 of Andrew et al. written once more, its noise drawn from the same stream."""
    rng, m, z, gamma, eta = np.random.default_rng(1), 40, 0.8, 0.3, 0.2
    adaptive = AdaptiveClip(quantile=gamma, learning_rate=eta)
    mean, bound = NoisyMean(0.7, z, m, STREAMS, adaptive), 0.7
    sigma_b = m / 20
    z_delta = (z**-2 - (2 * sigma_b) ** -2) ** -0.5
    for round in range(1, 6):
        updates = rng.normal(size=(m - 3, 5))  # three do not answer
        draws = torch.Generator().manual_seed(
            (STREAMS.key("aggregate_noise") + round) % 2**32
        )  # noise of the update first, then of the count
        noise = [torch.randn(n, generator=draws, dtype=torch.float64).numpy() for n in (3, 2, 1)]
        lengths = np.linalg.norm(updates, axis=1)
        short = updates * np.minimum(1, bound / lengths)[:, None]
        expected = (short.sum(axis=0) + z_delta * bound * np.concatenate(noise[:2])) / m
        assert flat(released(mean, updates.tolist(), round)) == pytest.approx(expected, rel=1e-12)
        votes = np.where(lengths <= bound, 0.5, -0.5).sum() + sigma_b * noise[2][0]
        bound *= math.exp(-eta * (0.5 + votes / m - gamma))
        assert mean.clip_norm == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("start", [0.1, 10.0])
@pytest.mark.parametrize("quantile", [0.5, 0.7])
def test_the_bound_gets_from_both_sides_to_the_quantile_of_the_norms(
    start: float, quantile: float
) -> None:
    """The published code of another framework has the sign inverted, and goes to 0 or to 4034."""
    rng = np.random.default_rng(2)
    mean = NoisyMean(start, 1.0, 100, STREAMS, AdaptiveClip(quantile=quantile))
    found = []
    for round in range(1, 81):
        directions = rng.normal(size=(100, 5))
        norms = np.exp(rng.normal(scale=0.4, size=100))  # with median 1
        updates = directions * (norms / np.linalg.norm(directions, axis=1))[:, None]
        released(mean, updates.tolist(), round)
        found.append(mean.clip_norm)
    expected = math.exp(0.4 * norm.ppf(quantile))
    assert np.mean(found[40:]) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("z", "m"), [(1.0, 100), (0.3, 20), (2.0, 200)])
def test_update_and_count_together_are_one_gaussian_of_noise_z(z: float, m: int) -> None:
    adaptive = AdaptiveClip()
    of_update, of_count = adaptive.update_noise(z, m), 2 * adaptive.sigma_b(m)
    both = from_gaussian_mechanism(of_update).compose(from_gaussian_mechanism(of_count))
    assert both.get_epsilon_for_delta(1e-4) == pytest.approx(
        from_gaussian_mechanism(z).get_epsilon_for_delta(1e-4), abs=1e-3
    )
    assert adaptive.update_noise(0.0, m) == 0


def test_a_cohort_that_is_too_small_for_its_count_is_refused_with_the_number() -> None:
    with pytest.raises(ValueError, match=r"with 8 sites .* noise of 0\.4.* takes 1 at least"):
        AdaptiveClip().update_noise(1.0, 8)
    with pytest.raises(ValueError, match=r"deviation of 0\.12, and may have 0\.1"):
        AdaptiveClip(count_noise=1.0).update_noise(1.0, 8)
    assert AdaptiveClip(count_noise=0.8).update_noise(0.8, 8) == pytest.approx(
        0.8 / math.sqrt(0.75)
    )


def test_a_bound_goes_on_where_it_was() -> None:
    one = NoisyMean(0.1, 1.0, 40, STREAMS, AdaptiveClip())
    updates = np.random.default_rng(3).normal(size=(40, 5)).tolist()
    released(one, updates, 1)
    other = NoisyMean(0.1, 1.0, 40, STREAMS, AdaptiveClip())
    other.restore(one.state())
    assert np.array_equal(flat(released(other, updates, 2)), flat(released(one, updates, 2)))
    assert one.clip_norm == other.clip_norm != 0.1
