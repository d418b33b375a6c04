"""Tests of the noise's numbers against torch's own."""

import math

import pytest
import torch
from scipy.stats import kstest

from clients.gaussian import _transform, standard_normal


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize(
    "shape", [(), (1,), (0,), (15,), (16,), (17,), (3, 5, 7), (64, 784), (10_007,)]
)
def test_the_numbers_are_torchs_and_the_generator_stands_where_torch_leaves_it(
    shape: tuple[int, ...],
) -> None:
    ours, theirs = generator(), generator()
    found = standard_normal(torch.Size(shape), ours)
    expected = torch.normal(0.0, 1.0, shape, generator=theirs, dtype=torch.float64)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=1e-15)
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_numbers_are_normal() -> None:
    found = standard_normal(torch.Size([1_000_000]), generator())
    assert kstest(found.numpy(), "norm").pvalue > 1e-3
    assert (found.abs() > 4).sum() in range(40, 90)  # 63 expected


def test_tails_reach_farther_than_those_of_single_precision() -> None:
    largest = torch.full((16,), 1 - 2.0**-53, dtype=torch.float64)
    _transform(largest)
    assert largest[0] == pytest.approx(math.sqrt(106 * math.log(2)), rel=1e-12)  # 8.57
