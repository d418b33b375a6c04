"""Geometric median: the point whose weighted distances to all updates have the least sum (RFA).

Source: Pillutla, Kakade and Harchaoui, IEEE Transactions on Signal Processing 2022 (arXiv
1912.13445). The smoothed Weiszfeld algorithm starts at the weighted mean and repeats

    v = sum_i beta_i g_i / sum_i beta_i,    beta_i = p_i / max(nu, ||v - g_i||).

On the Gram matrix v = G^T c and ||v - g_i||^2 = K_ii - 2 (K c)_i + c^T K c.

Differences from the paper: there each step is a round of secure aggregation, and a few must do;
here a step costs m^2 operations, so it goes on until v moves by less than 1e-12 of nu's unit or
1000 steps are done. nu is relative to the weighted median length of the updates, so that scaled
updates give a scaled aggregate and no minority decides on it; the paper's is absolute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.gram_rule import GramRule

if TYPE_CHECKING:
    from torch import Tensor

MAX_STEPS = 1000
TOLERANCE = 1e-12


class GeometricMedian(GramRule):
    """Let every site pull with the same force, however far away it is.

    Robust while the sites that may send anything hold less than half of the weight; where each
    counts as its examples do, those are numbers that sites report themselves.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[1.0], [2.0], [900.0]])}
    >>> GeometricMedian().aggregate(updates, torch.ones(3), {})[0]["bias"]
    tensor([2.])
    """

    kind: Literal["geometric_median"] = "geometric_median"
    smoothing: float = Field(
        default=1e-6,
        gt=0,
        allow_inf_nan=False,
        description="nu, the distance below which a site pulls less, relative to the weighted "
        "median length of the updates",
    )

    reference: ClassVar[str] = """@article{pillutla2022robust,
  title = {Robust Aggregation for Federated Learning},
  author = {Pillutla, Krishna and Kakade, Sham M. and Harchaoui, Zaid},
  journal = {IEEE Transactions on Signal Processing},
  volume = {70},
  pages = {1142--1154},
  year = {2022},
}"""

    def coefficients(self, K: Tensor, p: Tensor) -> Tensor:
        """Return beta over its sum."""
        squares = K.diagonal()
        unit = median(squares.sqrt(), p)
        if unit == 0:
            still = p.where(squares == 0, 0.0)
            return still / still.sum()
        c = p
        for _ in range(MAX_STEPS):
            Kc = K @ c
            distances = (squares - 2 * Kc + c @ Kc).clamp(min=0).sqrt()
            beta = p / distances.clamp(min=self.smoothing * unit)
            move, c = beta / beta.sum() - c, beta / beta.sum()
            if move @ K @ move <= (TOLERANCE * unit) ** 2:
                break
        return c


def median(values: Tensor, p: Tensor) -> float:
    """Return the least value such that those up to it have more than half of the weight.

    >>> import torch
    >>> median(torch.tensor([9.0, 1.0, 2.0]), torch.tensor([0.4, 0.3, 0.3]))
    2.0
    """
    ascending, order = values.sort()
    return float(ascending[p[order].cumsum(dim=0) > 0.5][0])
