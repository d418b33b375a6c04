"""What the rules on a Gram matrix share: one pass that reads, one pass that combines.

Most aggregation rules return G^T c, where the m client updates of a layer are the rows of G (m x d)
and c depends only on K = G G^T and on how much each site counts. Each layer is thus read twice,
with O(m^2) numbers in between, and never copied: both passes go through it in chunks of columns.

>>> import torch
>>> stack = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
>>> gram(stack)
tensor([[25.,  3.],
        [ 3.,  1.]], dtype=torch.float64)
>>> combine(stack, torch.tensor([0.5, 0.5]))
tensor([2., 2.])

Design note: products of float32 updates are formed in float32 over short blocks and summed in
float64 over the blocks. An entry of K then errs by about 1e-7 |g_i| |g_j|, which is how exact the
updates themselves are, and a matrix product in float64 throughout would take more than twice the
time. Float64 updates are float64 throughout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from strategies.stack import chunks, over_sites, rows

if TYPE_CHECKING:
    from torch import Tensor

GRAM_ELEMENTS = 2**22
"""Elements of a stack, over all sites, that `gram` multiplies at a time."""

BLOCK_COLUMNS = 2048
"""Length of an inner product before it is added to a float64 sum."""

TILE_SITES = 16
"""Sites on the right of one product; what lies above the diagonal tiles is never computed."""


def shares(weights: Tensor, rule: Literal["examples", "uniform"]) -> Tensor:
    """Return how much each site counts, p: (site,), float64, on the CPU, with sum one.

    Args:
        weights: example counts n_k, (site,), non-negative with a positive sum.
        rule: `examples` for n_k / sum n, `uniform` for 1 / number of sites.
    """
    counts = weights.to("cpu", torch.float64)
    if rule == "uniform":
        counts = torch.ones_like(counts)
    return counts / counts.sum()


def gram(stack: Tensor) -> Tensor:
    """Return the inner products of the client updates, K: (site, site), float64, on the CPU.

    Args:
        stack: the updates G of one layer, (site, *shape), floating point; float16 and bfloat16 are
            multiplied in float32. Read in place if its elements are contiguous per site.
    """
    m = len(stack)
    dtype = torch.promote_types(stack.dtype, torch.float32)
    K = torch.zeros(m, m, dtype=torch.float64, device=stack.device)
    for chunk in chunks(rows(stack), GRAM_ELEMENTS // m):
        for G in _blocks(chunk.to(dtype)):
            for i in range(0, m, TILE_SITES):
                tile = G[:, i:] @ G[:, i : i + TILE_SITES].mT
                K[i:, i : i + TILE_SITES] += tile.sum(dim=0, dtype=torch.float64)
    return (K.tril() + K.tril(-1).T).cpu()


def combine(stack: Tensor, coefficients: Tensor) -> Tensor:
    """Return G^T c, summed in float64: (*shape), dtype and device of the stack.

    Args:
        stack: the updates G of one layer, (site, *shape), floating point.
        coefficients: c, (site,), floating point.
    """
    c = coefficients.to(stack.device, torch.float64)
    return over_sites(stack, lambda G: c @ G)


def _blocks(G: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix cut along its columns, (block, site, column): whole blocks and the rest."""
    count = G.shape[1] // BLOCK_COLUMNS
    whole, rest = G.tensor_split([count * BLOCK_COLUMNS], dim=1)
    return whole.reshape(len(G), count, BLOCK_COLUMNS).transpose(0, 1), rest.unsqueeze(0)
