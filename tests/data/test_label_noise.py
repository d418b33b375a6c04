"""Label noise: rates as asked, mistakes of the right kind, the truth left alone elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import binomtest, chisquare

from fedsim.data.label_noise import BUILTIN, LabelNoise, Mistaken, Neighbour, Symmetric

LABELS = np.random.default_rng(0).integers(0, 4, 8000)


def noisy(noise: LabelNoise, seed: int = 1) -> Any:
    return noise.mislabel(LABELS, 4, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", [Symmetric, Neighbour])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_the_share_of_mistakes_is_the_rate(kind: Any, rate: float) -> None:
    changed = int((noisy(kind(rate=rate)) != LABELS).sum())
    assert binomtest(changed, len(LABELS), rate).pvalue > 1e-3


def test_symmetric_mistakes_are_uniform_over_the_other_classes() -> None:
    found = noisy(Symmetric(rate=1.0))
    for true in range(4):
        counts = np.bincount(found[true == LABELS], minlength=4)
        assert counts[true] == 0
        assert chisquare(np.delete(counts, true)).pvalue > 1e-3


def test_neighbours_are_one_grade_away() -> None:
    found = noisy(Neighbour(rate=1.0))
    assert (np.abs(found - LABELS) == 1).all()


def test_only_the_mistakes_that_are_named_are_made() -> None:
    found = noisy(Mistaken(rate=1.0, mistakes={3: 0}))
    np.testing.assert_array_equal(found, np.where(LABELS == 3, 0, LABELS))


def test_a_range_gives_every_site_its_own_rate() -> None:
    noise = Symmetric(rate=(0.1, 0.6))
    rates = [float((noisy(noise, seed) != LABELS).mean()) for seed in range(30)]
    assert 0.08 < min(rates) < 0.25
    assert 0.45 < max(rates) < 0.62


@pytest.mark.parametrize("kind", BUILTIN)
def test_the_same_stream_makes_the_same_mistakes(kind: Any) -> None:
    more = {"mistakes": {0: 1}} if kind is Mistaken else {}
    noise = kind(rate=0.3, **more)
    np.testing.assert_array_equal(noisy(noise), noisy(noise))
    assert noisy(noise).dtype == np.int64
    confusion = noise.confusion(4)
    assert np.diag(confusion).sum() == 0
    assert set(np.round(confusion.sum(axis=1), 12)) <= {0.0, 1.0}


@pytest.mark.parametrize("rate", [-0.1, 1.1, (0.5, 0.2), (0.1,), "high"])
def test_rates_out_of_range_are_refused(rate: Any) -> None:
    with pytest.raises(ValidationError):
        Symmetric(rate=rate)
