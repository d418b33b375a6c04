"""MGDA: the shortest sum of updates, along which no site's loss goes up (FedMGDA+, server half).

Source: Hu, Shaloudegi, Zhang and Yu, IEEE TNSE 2022 (arXiv 2006.11489), which brings the multiple
gradient descent algorithm to federated learning. The aggregate is sum_i lambda_i g_i with

    lambda = argmin || sum_i lambda_i g_i ||  over the simplex,  |lambda_i - p_i| <= epsilon,

c = lambda. Without the second constraint (`epsilon: 1`) the aggregate d is the point of least norm
in the convex hull of the updates, for which <g_i, d> >= ||d||^2 at every site, or zero where no
direction serves all; with `epsilon: 0` it is the weighted mean. FedMGDA+ also makes every update of
unit length first (`normalise`).

Differences from the paper: with `normalise` the paper leaves the length of the step to the server's
learning rate; here d is multiplied with the mean length sum_i p_i ||g_i|| of the updates, so that
the learning rate of one stays a fair start and scaled updates give a scaled aggregate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.gram_rule import GramRule

if TYPE_CHECKING:
    from torch import Tensor


class Mgda(GramRule):
    """Weigh the updates so that their sum is as short as possible.

    Expect short steps: with `epsilon: 1` the aggregate is never longer than the shortest update,
    and it vanishes where no direction serves all sites; one without an update stops the others.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}
    >>> Mgda().aggregate(updates, torch.ones(2), {})[0]["bias"]
    tensor([0.4000, 0.8000])
    """

    kind: Literal["mgda"] = "mgda"
    epsilon: float = Field(
        default=1.0, ge=0, le=1, description="how far a weight may be from the site's share"
    )
    normalise: bool = Field(
        default=False, description="give all updates the same length first (FedMGDA+)"
    )

    reference: ClassVar[str] = """@article{hu2022federated,
  title = {Federated Learning Meets Multi-Objective Optimization},
  author = {Hu, Zeou and Shaloudegi, Kiarash and Zhang, Guojun and Yu, Yaoliang},
  journal = {IEEE Transactions on Network Science and Engineering},
  year = {2022},
}"""

    def coefficients(self, K: Tensor, p: Tensor) -> Tensor:
        """Return lambda, or with `normalise` lambda_i times the mean length over ||g_i||."""
        import torch

        from strategies.simplex import shortest

        scale = torch.ones_like(p)
        if self.normalise:
            norms = K.diagonal().sqrt()
            scale = (p @ norms) / norms.where(norms > 0, torch.inf)
        lower, upper = (p - self.epsilon).clamp(min=0), (p + self.epsilon).clamp(max=1)
        return scale * shortest(scale[:, None] * K * scale, torch.zeros_like(p), p, lower, upper)
