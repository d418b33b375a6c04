"""Pseudo-labels by optimal transport: the most plausible labels that agree with a bag's response.

Source: Dulac-Arnold, Zeghidour, Cuturi, Beyer, Vert, Deep Multi-Class Learning from Label
Proportions, 2019 (arXiv:1905.12909), known as ROT. For each bag, in the notation of `bagged`,

    Q* = argmin <Q, -log P> - reg H(Q)    with  Q 1 = 1/k,  Q' 1 = pi,

found by Sinkhorn's iterations, which rescale rows and columns in turn; rows last, so that k Q*
holds a distribution over the classes for each example. With the pseudo-labels t_i = k Q*_i, taken
as given (no gradient), or the most probable class of each:

    alpha L_bag + (1 - alpha) mean_i sum_c -t_ic log p_ic,

L_bag the bag's cross-entropy. In bags of size one both terms are the cross-entropy. The marginal of
the classes is met as far as the iterations have converged, and by `hard` pseudo-labels nearly.

Noise in the responses: pseudo-labels need proportions, so for them what is below zero counts as
none and the rest as shares, which biases them; L_bag takes responses as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.objectives.bag import bag_risk
from clients.objectives.bagged import BagObjective, cross_entropy, log_means, to_proportions

if TYPE_CHECKING:
    from torch import Tensor

    from clients.batch import Bags
    from clients.objectives.base import Context


class OptimalTransport(BagObjective):
    """Bag loss mixed with the cross-entropy of pseudo-labels that agree with the responses (ROT).

    >>> OptimalTransport(alpha=0).pseudo_labels
    'soft'
    """

    kind: Literal["optimal_transport"] = "optimal_transport"
    alpha: float = Field(
        default=0.6, ge=0, le=1, description="weight of the bag loss; the rest is pseudo-labels'"
    )
    pseudo_labels: Literal["soft", "hard"] = Field(
        default="soft", description="k Q*, or the most probable class of each example by it"
    )
    regularisation: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="reg: the smaller, the surer labels"
    )
    num_iterations: int = Field(default=20, ge=1, description="of Sinkhorn's algorithm")

    reference: ClassVar[str] = """@misc{dulacarnold2019deep,
  title = {Deep multi-class learning from label proportions},
  author = {Dulac-Arnold, Gabriel and Zeghidour, Neil and Cuturi, Marco and Beyer, Lucas
            and Vert, Jean-Philippe},
  year = {2019},
  eprint = {1905.12909},
  archiveprefix = {arXiv},
}"""

    def bag_loss(self, outputs: Tensor, bags: Bags, context: Context) -> Tensor:
        """Return the mixture of both losses, a scalar."""
        log_p = outputs.log_softmax(dim=1)
        labels = self._labels(log_p.detach(), bags)
        return self.alpha * bag_risk(outputs, bags) + (1 - self.alpha) * cross_entropy(
            labels, log_p
        )

    def _labels(self, log_p: Tensor, bags: Bags) -> Tensor:
        """Return the pseudo-labels, (example, class)."""
        from torch.nn.functional import one_hot

        plan = transport(log_p / self.regularisation, bags, self.num_iterations)
        if self.pseudo_labels == "soft":
            return plan
        return one_hot(plan.argmax(dim=1), plan.shape[1]).to(plan)


def transport(scores: Tensor, bags: Bags, num_iterations: int) -> Tensor:
    """Return k Q*, (example, class): rows with sum one whose mean in a bag is its response.

    Args:
        scores: log P / reg, (example, class), finite.
        bags: that the examples lie in.
        num_iterations: of Sinkhorn's algorithm.
    """
    target = to_proportions(bags.responses).log()
    rows = -scores.logsumexp(dim=1, keepdim=True)
    for _ in range(num_iterations):
        columns = (target - log_means(scores + rows, bags))[bags.of_example]
        rows = -(scores + columns).logsumexp(dim=1, keepdim=True)
    return (scores + columns + rows).exp()
