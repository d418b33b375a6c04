"""Events in dp_accounting's words: its accountants find what the mechanisms say they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.dp_event import RandomizedResponseDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from numpy.typing import NDArray
from scipy.stats import dlaplace, laplace

from fedsim.privacy.accounting import pure_epsilon
from fedsim.privacy.events import history
from fedsim.privacy.label import (
    Gaussian,
    Geometric,
    LabelRelease,
    Laplace,
    RandomisedResponse,
    Relation,
    Truncation,
)

PURE = [Laplace, Geometric]


def accountant(release: LabelRelease) -> Any:
    flipped = isinstance(release.event, RandomizedResponseDpEvent)
    relation = NeighboringRelation.REPLACE_ONE if flipped else NeighboringRelation.REPLACE_SPECIAL
    return PLDAccountant(relation).compose(release.event)


def accounted(release: LabelRelease, delta: float = 1e-9) -> float:
    """Return epsilon by privacy loss distributions, which give up a mass of 1e-10 for speed."""
    return float(accountant(release).get_epsilon(delta))


def exactly(release: LabelRelease) -> float | None:
    """Return the epsilon that the ledger has of a pure release."""
    return pure_epsilon(history([(release.event, 1)]))


@pytest.mark.parametrize("num_draws", [1, 3])
@pytest.mark.parametrize("relation", ["replace_one", "zero_out"])
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("part", PURE)
def test_a_pure_release_costs_its_epsilon_for_every_draw(
    part: Any, num_classes: int, relation: Relation, num_draws: int
) -> None:
    release = part(epsilon=0.8, relation=relation).event(num_classes, num_draws)
    assert exactly(release) == pytest.approx(0.8 * num_draws, rel=1e-12)
    assert accounted(release) == pytest.approx(0.8 * num_draws, abs=2e-4 * num_draws)


@pytest.mark.parametrize(
    ("num_draws", "epsilon"), [(1, 1.0), (2, 1.465), (5, 2.442), (10, 3.619), (50, 9.359)]
)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_gaussian_draws_add_up_as_one_with_less_noise(
    num_classes: int, num_draws: int, epsilon: float
) -> None:
    release = Gaussian(epsilon=1.0, delta=1e-5).event(num_classes, num_draws)
    assert exactly(release) is None
    assert accounted(release, 1e-5) == pytest.approx(epsilon, abs=1e-3)


def test_accounting_a_gaussian_event_as_replacement_would_count_its_sensitivity_twice() -> None:
    release = Gaussian(epsilon=1.0, delta=1e-5).event(3)
    twice = PLDAccountant(NeighboringRelation.REPLACE_ONE).compose(release.event)
    assert twice.get_epsilon(1e-5) > 1.9


@pytest.mark.parametrize("part", [Laplace, lambda **keys: Gaussian(delta=1e-5, **keys)])
def test_means_cost_what_counts_do(part: Any) -> None:
    means = part(epsilon=0.8).event_of_means(Truncation(low=-2, high=3), 2)
    counts = part(epsilon=0.8).event(2, 2)
    assert accounted(means, 1e-5) == pytest.approx(accounted(counts, 1e-5), rel=1e-6)


def test_draws_are_one_event_each() -> None:
    once, thrice = (Laplace(epsilon=0.5).event(2, num_draws).event for num_draws in (1, 3))
    assert thrice == SelfComposedDpEvent(once, 3)


def two_counts(masses: NDArray[np.float64], moved: int, epsilon: float) -> float:
    """Return the delta at epsilon of two counts, of which one goes up and the other one down.

    Args:
        masses: of noise, on a grid that is symmetric about 0 and ends where there is no more.
        moved: by how many points.
        epsilon: at which.
    """
    one, other = np.outer(masses, masses), np.outer(np.roll(masses, moved), np.roll(masses, -moved))
    return float(np.maximum(one - np.exp(epsilon) * other, 0).sum())


@pytest.mark.parametrize("part", PURE)
def test_an_event_never_says_less_than_what_two_counts_give_away(part: Any) -> None:
    grid = np.arange(-480, 481)
    masses, moved = (
        (dlaplace(0.5).pmf(grid), 1)
        if part is Geometric
        else (np.diff(laplace(scale=2.0).cdf((np.append(grid, 481) - 0.5) / 8)), 8)
    )
    accounted = accountant(part(epsilon=1.0).event(3))
    for epsilon in (0.0, 0.25, 0.5, 0.75):
        exact = two_counts(masses, moved, epsilon)
        assert 0 < exact < accounted.get_delta(epsilon) < 2 * exact


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_randomised_response_costs_its_epsilon(num_classes: int) -> None:
    release = RandomisedResponse(epsilon=1.3).event(num_classes)
    assert exactly(release) == pytest.approx(1.3, rel=1e-12)
    assert accounted(release) == pytest.approx(1.3, abs=2e-4)
