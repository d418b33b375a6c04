"""The two passes over a stack agree with the definition, whatever its shape, type and length."""

import pytest
import torch
from torch import Tensor

from strategies import gram as module
from strategies import stack as stack_module
from strategies.gram import combine, gram, shares

SHAPES = [(), (1,), (7,), (4, 3, 2), (0,)]


def stack_of(sites: int, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sites, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sites", [1, 5, 16, 17, 40])
def test_gram_is_inner_products(sites: int, shape: tuple[int, ...]) -> None:
    stack = stack_of(sites, *shape)
    rows = stack.numpy().reshape(sites, stack[0].numel())
    K = gram(stack)
    assert K.dtype == torch.float64
    assert torch.equal(K, K.T)
    torch.testing.assert_close(K, torch.from_numpy(rows @ rows.T), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_combine_is_a_linear_combination(shape: tuple[int, ...]) -> None:
    stack, c = stack_of(5, *shape), stack_of(5, seed=1)
    expected = sum(c_i * g_i for c_i, g_i in zip(c, stack, strict=True))
    torch.testing.assert_close(combine(stack, c), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("elements", [1, 3, 10, 1000])
def test_chunks_change_rounding_only(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    stack, c = stack_of(3, 11, 5), stack_of(3, seed=1)
    K, combined = gram(stack), combine(stack, c)
    monkeypatch.setattr(stack_module, "CHUNK_ELEMENTS", elements)
    monkeypatch.setattr(module, "GRAM_ELEMENTS", elements)
    monkeypatch.setattr(module, "BLOCK_COLUMNS", 4)
    torch.testing.assert_close(gram(stack), K, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(combine(stack, c), combined, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_types_are_summed_wide(dtype: torch.dtype) -> None:
    stack, c = stack_of(4, 5000).to(dtype), torch.tensor([0.5, 0.25, 0.125, 0.125])
    exact = gram(stack.double())
    norms = exact.diagonal().sqrt()
    assert ((gram(stack) - exact).abs() <= 2e-6 * torch.outer(norms, norms)).all()
    combined = combine(stack, c)
    assert combined.dtype == dtype
    assert torch.equal(combined, combine(stack.double(), c).to(dtype))


def test_strided_stacks_are_read_right() -> None:
    stack = stack_of(6, 5, 4).permute(2, 1, 0)
    assert not stack.is_contiguous()
    torch.testing.assert_close(gram(stack), gram(stack.contiguous()))
    c = stack_of(4, seed=1)
    assert torch.equal(combine(stack, c), combine(stack.contiguous(), c))


def test_shares_sum_to_one() -> None:
    counts = torch.tensor([10.0, 30.0, 0.0], dtype=torch.float64)
    assert shares(counts, "examples").tolist() == [0.25, 0.75, 0.0]
    assert shares(counts, "uniform").tolist() == [1 / 3] * 3
