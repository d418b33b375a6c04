"""CAGrad: the update near the mean that serves the worst-off site best.

Source: Liu, Liu, Jin, Stone and Liu, NeurIPS 2021 (arXiv 2110.14048). With g_0 = sum_i p_i g_i the
aggregate is the d in the ball ||d - g_0|| <= c ||g_0|| that maximises min_i <g_i, d>. Its dual is a
search for weights w in the simplex,

    w = argmin <g_w, g_0> + c ||g_0|| ||g_w||,   g_w = sum_i w_i g_i,
    d = g_0 + c ||g_0|| / ||g_w|| g_w,

a rule on K: <g_w, g_0> = w^T K p. With c = 0 it is the weighted mean, and the larger c, the more it
is like MGDA.

Differences from the paper: d is divided by 1 + c, as an option of the released code does, so that
identical updates come back as they are (a server learning rate of 1 + c undoes it). Where g_w is
zero, that is where no direction serves all, d is g_0, also divided. Sites can count as their
examples do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.gram_rule import GramRule

if TYPE_CHECKING:
    from torch import Tensor

ZERO = 1e-14
"""A squared norm this small, relative to that of the longest update, is rounding noise."""


class CAGrad(GramRule):
    """Lean from the weighted mean towards the site that it helps least.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[3.0, 0.0], [0.0, 1.0]])}
    >>> CAGrad().aggregate(updates, torch.ones(2), {})[0]["bias"]
    tensor([1.0714, 0.8089])
    """

    kind: Literal["cagrad"] = "cagrad"
    c: float = Field(
        default=0.4,
        ge=0,
        allow_inf_nan=False,
        description="radius around the mean, as a fraction of its norm; below 1 it converges "
        "to where the mean does",
    )

    reference: ClassVar[str] = """@inproceedings{liu2021conflict,
  title = {Conflict-Averse Gradient Descent for Multi-Task Learning},
  author = {Liu, Bo and Liu, Xingchao and Jin, Xiaojie and Stone, Peter and Liu, Qiang},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2021},
}"""

    def coefficients(self, K: Tensor, p: Tensor) -> Tensor:
        """Return (p + c ||g_0|| / ||g_w|| w) / (1 + c)."""
        import torch

        from strategies.simplex import shortest

        noise = ZERO * K.diagonal().amax()
        radius = self.c * (p @ K @ p).clamp(min=0).sqrt()
        if radius**2 <= noise:
            return p / (1 + self.c)
        w = shortest(K, (K @ p) / radius, p, torch.zeros_like(p), torch.ones_like(p))
        square = w @ K @ w
        if square <= noise:
            return p / (1 + self.c)
        return (p + radius / square.sqrt() * w) / (1 + self.c)
