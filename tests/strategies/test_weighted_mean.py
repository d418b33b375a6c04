"""The weighted mean is the weighted mean."""

from typing import Literal

import numpy as np
import pytest
import torch

from strategies import WeightedMean


@pytest.mark.parametrize("rule", ["examples", "uniform"])
@pytest.mark.parametrize("shape", [(), (1,), (6,), (3, 2, 4)])
def test_agrees_with_a_direct_sum(
    rule: Literal["examples", "uniform"], shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    updates, counts = rng.normal(size=(4, *shape)), np.array([120.0, 7.0, 0.0, 55.0])
    p = counts / counts.sum() if rule == "examples" else np.full(4, 0.25)
    expected = sum(p[k] * updates[k] for k in range(4))
    aggregate, _ = WeightedMean(weights=rule).aggregate(
        {"w": torch.from_numpy(updates)}, torch.from_numpy(counts), {}
    )
    np.testing.assert_allclose(aggregate["w"].numpy(), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_one_site_is_returned_exactly(dtype: torch.dtype) -> None:
    stack = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    aggregate, _ = WeightedMean().aggregate({"w": stack}, torch.tensor([37.0]), {})
    assert torch.equal(aggregate["w"], stack[0])


def test_sums_in_float64() -> None:
    stack = torch.tensor([[1e8], [1.0], [-1e8], [1.0]])
    aggregate, _ = WeightedMean().aggregate({"w": stack}, torch.ones(4), {})
    assert aggregate["w"].item() == 0.5
