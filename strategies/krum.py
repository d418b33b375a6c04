"""Krum and multi-Krum: trust the updates that have the closest neighbours.

Source: Blanchard, El Mhamdi, Guerraoui and Stainer, NIPS 2017. The score of a site is the sum of
the squared distances of its update to the m - f - 2 closest others, for m sites of which f may be
Byzantine; Krum takes the update with the least score, multi-Krum the mean of the `num_selected`
least. On the Gram matrix ||g_i - g_j||^2 = K_ii + K_jj - 2 K_ij.

Differences from the paper: its guarantee needs m >= 2 f + 3; a round with fewer sites, or as soon
as m - f - 2 < 1, scores by the closest neighbour alone. Equal scores are decided by the order of
the sites. A site without examples is chosen last, if examples count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.gram_rule import GramRule

if TYPE_CHECKING:
    from torch import Tensor


class Krum(GramRule):
    """Take the mean of the updates that lie closest to their neighbours.

    Robust to `num_byzantine` arbitrary updates. Expect less of it where honest sites differ: it
    follows few of them, the same ones round after round.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[1.0], [1.1], [1.3], [-50.0]])}
    >>> Krum(num_byzantine=1).aggregate(updates, torch.ones(4), {})[0]["bias"]
    tensor([1.])
    """

    kind: Literal["krum"] = "krum"
    num_byzantine: int = Field(default=0, ge=0, description="f, sites that may send anything")
    num_selected: int = Field(
        default=1, gt=0, description="updates that are averaged: 1 for Krum, more for multi-Krum"
    )
    weights: Literal["examples", "uniform"] = Field(
        default="uniform",
        description="what a selected site counts as: its examples, or all the same (paper)",
    )

    reference: ClassVar[str] = """@inproceedings{blanchard2017machine,
  title = {Machine Learning with Adversaries: {Byzantine} Tolerant Gradient Descent},
  author = {Blanchard, Peva and El Mhamdi, El Mahdi and Guerraoui, Rachid and Stainer, Julien},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2017},
}"""

    def coefficients(self, K: Tensor, p: Tensor) -> Tensor:
        """Return p over the selected sites, with sum one, and zero elsewhere."""
        import torch

        squares = K.diagonal()
        distances = (squares[:, None] + squares - 2 * K).clamp(min=0)
        distances.fill_diagonal_(torch.inf)
        num_closest = min(max(len(p) - self.num_byzantine - 2, 1), len(p) - 1)
        scores = distances.sort(dim=1).values[:, :num_closest].sum(dim=1)
        scores[p == 0] = torch.inf
        selected = scores.argsort(stable=True)[: self.num_selected]
        c = torch.zeros_like(p)
        c[selected] = p[selected]
        return c / c.sum()
