"""The proximal term of FedProx, which a server may ask of its sites.

Source: Li et al., MLSys 2020, arXiv 1812.06127: h(w) = F(w) + mu/2 ||w - w_t||^2, with the squared
norm of the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def proximal_term(parameters: Iterable[Tensor], start: Sequence[Tensor], mu: float) -> Tensor:
    """Return mu/2 times the squared distance of the parameters to where the round started.

    Args:
        parameters: w, the model's parameters.
        start: w_t, their values at the start of the round, in the same order.
        mu: weight of the term.
    """
    import torch

    distances = [(w - w_t).square().sum() for w, w_t in zip(parameters, start, strict=True)]
    return mu / 2 * torch.stack(distances).sum()
