"""Noise follows the law that its epsilon asks for; a scale wrong by a tenth would be noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.optimize import bisect
from scipy.stats import chisquare, dlaplace, kstest, laplace, norm

from fedsim.errors import InputError
from fedsim.privacy.label import (
    BUILTIN,
    Gaussian,
    Geometric,
    LabelPrivacy,
    Laplace,
    Relation,
    Truncation,
    of_counts,
)

DELTA = 1e-5
NUM_BAGS = 40_000
MECHANISMS: dict[str, Callable[..., LabelPrivacy]] = {
    "laplace": Laplace,
    "gaussian": lambda **keys: Gaussian(delta=DELTA, **keys),
    "geometric": Geometric,
}


def test_every_mechanism_is_tested() -> None:
    assert {part.model_fields["kind"].default for part in BUILTIN} == set(MECHANISMS)


def noise(privacy: LabelPrivacy, num_classes: int) -> NDArray[np.float64]:
    """Return what was added to the counts of bags of many sizes, (bag, class that is told)."""
    rng = np.random.default_rng(5)
    labels = rng.integers(num_classes, size=(NUM_BAGS, num_classes)) + 1
    sizes = labels.sum(axis=1)
    released = privacy.release(labels, sizes, np.random.default_rng(6)) * sizes[:, None]
    return (released - labels)[:, 1:] if num_classes == 2 else released - labels


def fits(name: str, sample: NDArray[np.float64], scale: float) -> float:
    """Return the p-value of the law with this scale."""
    if name == "geometric":
        return float(fits_whole(sample, 1 / scale))
    law = {"laplace": laplace, "gaussian": norm}[name](scale=scale)
    return float(kstest(sample, law.cdf).pvalue)


def fits_whole(sample: NDArray[np.float64], a: float) -> float:
    """Return the p-value of the discrete Laplace law with parameter a."""
    whole = sample.round().astype(int)
    np.testing.assert_allclose(sample, whole, rtol=0, atol=1e-9)
    end = int(3 / a)  # what lies beyond counts as one
    inside = dlaplace(a).pmf(np.arange(-end, end + 1))
    expected = np.array([dlaplace(a).cdf(-end - 1), *inside, dlaplace(a).sf(end)])
    seen = np.bincount(np.clip(whole, -end - 1, end + 1) + end + 1, minlength=len(expected))
    return float(chisquare(seen, expected / expected.sum() * len(sample)).pvalue)


def balle_wang(epsilon: float, sensitivity: float) -> float:
    """Return sigma by theorem 8, as it is written there."""

    def excess(sigma: float) -> float:
        a, b = sensitivity / 2 / sigma, epsilon * sigma / sensitivity
        return float(norm.cdf(a - b) - np.exp(epsilon) * norm.cdf(-a - b)) - DELTA

    return float(bisect(excess, 1e-3, 1e3))


def stated(name: str, epsilon: float, num_classes: int, relation: Relation) -> float:
    """Return the scale by hand: how many counts move by one decides."""
    moved = 2 if num_classes > 2 and relation == "replace_one" else 1
    return balle_wang(epsilon, moved**0.5) if name == "gaussian" else moved / epsilon


@pytest.mark.parametrize("relation", ["replace_one", "zero_out"])
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
@pytest.mark.parametrize("name", MECHANISMS)
def test_noise_on_counts_has_the_stated_law_whatever_the_size_of_the_bag(
    name: str, epsilon: float, num_classes: int, relation: Relation
) -> None:
    privacy = MECHANISMS[name](epsilon=epsilon, relation=relation)
    sample = noise(privacy, num_classes).ravel()
    scale = stated(name, epsilon, num_classes, relation)
    assert fits(name, sample, scale) > 1e-3
    assert fits(name, sample, 1.1 * scale) < 1e-6
    assert fits(name, sample, scale / 1.1) < 1e-6


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
@pytest.mark.parametrize("name", MECHANISMS)
def test_the_variance_is_that_of_the_noise(name: str, epsilon: float) -> None:
    privacy = MECHANISMS[name](epsilon=epsilon)
    scale = privacy.scale(of_counts(2, "replace_one"))
    seen = privacy.noise(scale, (400_000,), np.random.default_rng(0)).var()
    assert privacy.variance(scale) == pytest.approx(seen, rel=0.02)


@pytest.mark.parametrize("relation", ["replace_one", "zero_out"])
@pytest.mark.parametrize("name", ["laplace", "gaussian"])
def test_noise_on_means_has_the_stated_law(name: str, relation: Relation) -> None:
    privacy = MECHANISMS[name](epsilon=1.0, relation=relation)
    means = np.random.default_rng(0).uniform(-2, 2, NUM_BAGS)
    sizes = np.random.default_rng(1).integers(1, 65, NUM_BAGS)
    truncation = Truncation(low=-2, high=2)
    released = privacy.release_means(means, sizes, truncation, np.random.default_rng(2))
    sample = (released - means) * sizes
    width = 4 if relation == "replace_one" else 2
    scale = balle_wang(1.0, width) if name == "gaussian" else width
    assert fits(name, sample, scale) > 1e-3
    assert fits(name, sample, 1.1 * scale) < 1e-6
    assert fits(name, sample, scale / 1.1) < 1e-6


@pytest.mark.parametrize("name", MECHANISMS)
def test_noise_is_without_bias_and_independent_between_classes_and_bags(name: str) -> None:
    sample = noise(MECHANISMS[name](epsilon=1.0), 3)
    unit = (sample / sample.std()).T
    assert np.abs(unit.mean(axis=1)).max() < 4 / NUM_BAGS**0.5
    assert np.abs(np.corrcoef(unit)[np.triu_indices(3, 1)]).max() < 4 / NUM_BAGS**0.5
    assert abs(np.corrcoef(unit[0, 1:], unit[0, :-1])[0, 1]) < 4 / NUM_BAGS**0.5


@pytest.mark.parametrize("name", MECHANISMS)
def test_the_same_stream_gives_the_same_release_and_another_one_another(name: str) -> None:
    privacy = MECHANISMS[name](epsilon=0.1)
    counts, sizes = np.array([[3, 5, 1]]), np.array([9])
    a, b, c = (privacy.release(counts, sizes, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert a.dtype == np.float64
    assert (a == b).all()
    assert (a != c).any()


@pytest.mark.parametrize("epsilon", [1e-3, 1e6])
@pytest.mark.parametrize("name", MECHANISMS)
def test_the_largest_and_the_least_epsilon_give_numbers(name: str, epsilon: float) -> None:
    privacy = MECHANISMS[name](epsilon=epsilon)
    counts, sizes = np.array([[3, 5, 1]]), np.array([9])
    released = privacy.release(counts, sizes, np.random.default_rng(0))
    assert np.isfinite(released).all()
    assert (np.abs(released - counts / 9).max() < 0.01) == (epsilon == 1e6)


def test_whole_numbers_cannot_protect_means() -> None:
    one = np.ones(1, dtype=np.int64)
    with pytest.raises(InputError, match="take laplace or gaussian for real-valued targets"):
        Geometric(epsilon=1.0).release_means(
            np.zeros(1), one, Truncation(low=0, high=1), np.random.default_rng(0)
        )
    with pytest.raises(InputError, match="take laplace or gaussian"):
        Geometric(epsilon=1.0).event_of_means(Truncation(low=0, high=1))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"epsilon": 0},
        {"epsilon": -1},
        {"epsilon": float("inf")},
        {"epsilon": float("nan")},
        {"epsilon": 1.0, "relation": "add_or_remove_one"},
        {"epsilon": 1.0, "scale": 2.0},
    ],
)
@pytest.mark.parametrize("name", MECHANISMS)
def test_numbers_that_promise_nothing_are_refused(name: str, keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MECHANISMS[name](**keys)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, float("nan")])
def test_gaussian_noise_needs_a_delta_between_0_and_1(delta: float) -> None:
    with pytest.raises(ValidationError):
        Gaussian(epsilon=1.0, delta=delta)
    with pytest.raises(ValidationError):
        Gaussian(epsilon=1.0)  # type: ignore[call-arg]
