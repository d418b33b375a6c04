"""Means with correlated noise: that of the factorisation, made anew from streams alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsim.privacy.correlated_mean import CorrelatedMean
from fedsim.privacy.matrix_factorisation import Banded, Factorisation, Tree
from fedsim.privacy.private_mean import NoisyMean, PrivateMean
from fedsim.seeds import Streams

CLIP, NOISE, NUM, SEPARATION = 0.5, 2.0, 4, 4
SHAPES = {"a": (3,), "b": (2, 5), "c": ()}


def made(
    factorisation: Factorisation | None = None, separation: int = SEPARATION
) -> CorrelatedMean:
    return CorrelatedMean(CLIP, NOISE, NUM, Streams(0), factorisation or Banded(), separation)


def means(mean: PrivateMean, rounds: range, size: int | None = None) -> Tensor:
    """Return (round, value) of rounds in which each of four sites sends ones."""
    shapes = SHAPES if size is None else {"a": (size,)}
    found = []
    for round in rounds:
        mean.begin({name: torch.zeros(s, dtype=torch.float64) for name, s in shapes.items()})
        for _ in range(NUM if size is None else 0):
            mean.take({name: torch.ones(s, dtype=torch.float64) for name, s in shapes.items()})
        found.append(torch.cat([value.flatten() for value in mean.release(round).values()]))
    return torch.stack(found)


@pytest.mark.parametrize(("part", "separation"), [(Banded(bands=1), 4), (Tree(), 1)])
def test_without_correlation_it_is_the_client_level_mean_bit_for_bit(
    part: Factorisation, separation: int
) -> None:
    independent = NoisyMean(CLIP, NOISE, NUM, Streams(0))
    rounds = range(1, 7)
    assert torch.equal(means(made(part, separation), rounds), means(independent, rounds))


@pytest.mark.parametrize("part", [Banded(), Banded(bands=2), Tree()], ids=repr)
def test_rounds_are_correlated_as_the_factorisation_says(part: Factorisation) -> None:
    num_rounds, size = 9, 40_000
    noise = means(made(part), range(1, num_rounds + 1), size).numpy()
    unit = torch.eye(num_rounds, dtype=torch.float64)
    inverse = torch.stack(list(part.correlated(unit, SEPARATION))).numpy()
    expected = inverse @ inverse.T * (NOISE * CLIP / NUM) ** 2
    found = noise @ noise.T / size
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((found - expected) / scale).max() < 5 / np.sqrt(size) * np.sqrt(2)


def test_the_sum_of_the_rounds_has_less_noise_than_with_independent_noise() -> None:
    rounds, size, separation = range(1, 21), 4000, 20
    shared = means(made(Banded(), separation), rounds, size).sum(0).std()
    alone = means(made(Banded(bands=1), separation), rounds, size).sum(0).std()
    assert float(shared) < 0.5 * float(alone)


@pytest.mark.parametrize("part", [Banded(), Tree()], ids=repr)
def test_one_that_begins_in_the_middle_has_the_same_bits(part: Factorisation) -> None:
    whole = means(made(part), range(1, 12))
    assert torch.equal(means(made(part), range(6, 12)), whole[5:])
    skipping = made(part)
    for round in (2, 3, 7):
        assert torch.equal(means(skipping, range(round, round + 1))[0], whole[round - 1])


def test_updates_are_clipped_and_a_site_that_does_not_answer_is_zero() -> None:
    axis = torch.zeros(10, dtype=torch.float64)
    axis[0] = 1.0
    found = []
    for updates in ([3 * axis, 0.1 * axis], [axis, 0.1 * axis, 0 * axis, 0 * axis], []):
        mean = made()
        mean.begin({"a": torch.zeros(10, dtype=torch.float64)})
        for update in updates:
            mean.take({"a": update})
        found.append(mean.release(1)["a"])
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0] - found[2], axis * 0.6 / NUM)
