"""Gradient harmonization: take out of every update what runs against another (FedGH, PCGrad).

Two updates conflict if <g_i, g_j> < 0. Every update starts as g_i' = g_i and is projected on the
plane orthogonal to one received update g_j after the other:

    g_i' <- g_i' - <g_i', g_j> / ||g_j||^2 g_j        for each j in conflict,

and the aggregate is sum_i p_i g_i'. `form` says who is in conflict:

- `fedgh` (Zhang, Sun and Chen, 2023, arXiv 2309.06692): the pairs whose received updates are;
- `pcgrad` (Yu et al., NeurIPS 2020, arXiv 2001.06782): those j with <g_i', g_j> < 0 for what g_i'
  is by then.

With A the coefficients of the g_i' in the received updates, <g_i', g_j> = (A K)_ij, so c = A^T p.

Differences from the papers: the result depends on the order of the j. PCGrad draws it at random,
and of FedGH we know the formula above, quoted from its paper, but no order. Here each site takes
those first that conflict most with its received update (least cosine): the same in every run and
whatever the order of the sites. PCGrad sums over tasks where this takes the weighted mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.gram_rule import GramRule

if TYPE_CHECKING:
    from torch import Tensor


class GradientHarmonization(GramRule):
    """Project conflicting updates on each other's orthogonal planes, then take the weighted mean.

    Without conflicts it is the weighted mean. A zero update conflicts with none.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[1.0, 0.0], [-1.0, 1.0]])}
    >>> GradientHarmonization().aggregate(updates, torch.ones(2), {})[0]["bias"]
    tensor([0.2500, 0.7500])
    """

    kind: Literal["gradient_harmonization"] = "gradient_harmonization"
    form: Literal["fedgh", "pcgrad"] = Field(
        default="fedgh",
        description="conflicts of the updates as received, or as projected so far (PCGrad)",
    )

    reference: ClassVar[str] = """@misc{zhang2023fedgh,
  title = {Tackling the {Non-IID} Issue in Heterogeneous Federated Learning by Gradient
           Harmonization},
  author = {Zhang, Xinyu and Sun, Weiyu and Chen, Ying},
  eprint = {2309.06692},
  archiveprefix = {arXiv},
  year = {2023},
}

@inproceedings{yu2020gradient,
  title = {Gradient Surgery for Multi-Task Learning},
  author = {Yu, Tianhe and Kumar, Saurabh and Gupta, Abhishek and Levine, Sergey
            and Hausman, Karol and Finn, Chelsea},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020},
}"""

    def coefficients(self, K: Tensor, p: Tensor) -> Tensor:
        """Return A^T p."""
        import torch

        squares = K.diagonal()
        cosines = K / squares.sqrt().where(squares > 0, 1.0)  # with g_j, times the norm of g_i
        order = cosines.fill_diagonal_(torch.inf).argsort(dim=1, stable=True)
        site = torch.arange(len(p))
        A = torch.eye(len(p), dtype=p.dtype)
        for j in order.T[:-1]:  # the next in line of every site
            inner = (A * K[j]).sum(dim=1)
            conflict = K[site, j] < 0 if self.form == "fedgh" else inner < 0
            A[site, j] -= (inner / squares[j]).where(conflict & (squares[j] > 0), 0.0)
        return p @ A
