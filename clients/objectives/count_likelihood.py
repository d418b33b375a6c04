"""The likelihood of the class counts of a bag, exactly.

Sources: for two classes the Poisson-binomial distribution by dynamic programming; maximum
likelihood from aggregates as in Zhang, Charoenphakdee, Wu, Sugiyama, Learning from Aggregate
Observations, NeurIPS 2020 (arXiv:2004.06316). With counts K = k pi, per bag, in the notation of
`bagged`:

    -(1/k) log P(sum_i y_i = K),    y_i one-hot with probabilities p_i, independent,

so that (1/n) sum_a k_a (...) is the negative log-likelihood of all bags by example. Its gradient in
the logits is (p_i - P(y_i | K)) / n, that of cross-entropy with the posterior as soft label: EM. In
bags of size one it is the cross-entropy.

Examples are taken up one after the other; what is kept, in logarithms, is the probability of all
counts so far of all classes but one, the most frequent. That is k steps on a grid of
prod_c (1 + K_c) counts, K_c the largest of the batch: k^2 for two classes. Grids of more than
`LARGEST_GRID` are refused.

Noise in the responses: what is below zero counts as none and the rest as shares of k, rounded to
whole examples by the largest remainders. That biases the loss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from clients.objectives.bagged import BagObjective, to_proportions

if TYPE_CHECKING:
    from torch import Tensor

    from clients.batch import Bags
    from clients.objectives.base import Context

LARGEST_GRID = 20_000
"""Counts of a bag that are told apart at most."""
IMPOSSIBLE = -1e30
"""A log-probability so low that sums with it count for nothing; finite, as its gradient must be."""


class CountLikelihood(BagObjective):
    """Exact likelihood of the class counts of a bag; for bags that are small.

    >>> [CountLikelihood.largest_bag(num_classes) for num_classes in (2, 3, 5, 10)]
    [19999, 140, 10, 2]
    """

    kind: Literal["count_likelihood"] = "count_likelihood"

    reference: ClassVar[str] = """@inproceedings{zhang2020learning,
  title = {Learning from Aggregate Observations},
  author = {Zhang, Yivan and Charoenphakdee, Nontawat and Wu, Zhenguo and Sugiyama, Masashi},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020},
}"""

    @staticmethod
    def largest_bag(num_classes: int) -> int:
        """Return the size up to which bags are taken, whatever their counts."""
        return int(LARGEST_GRID ** (1 / (num_classes - 1)) + 1e-9) - 1

    def bag_loss(self, outputs: Tensor, bags: Bags, context: Context) -> Tensor:
        """Return the negative log-likelihood by example, a scalar.

        Raises:
            ValueError: if bags are too large for so many classes.
        """
        counts = whole_counts(bags)
        order = counts.amax(dim=0).argsort(stable=True)  # the most frequent class last
        counts, log_p = counts[:, order], outputs.log_softmax(dim=1)[:, order]
        shape = [1 + largest for largest in counts.amax(dim=0).tolist()[:-1]]
        if math.prod(shape) > LARGEST_GRID:
            raise ValueError(
                f"the counts of {int(bags.sizes.max())} examples in {counts.shape[1]} classes are "
                f"too many for count_likelihood: use bags of at most "
                f"{self.largest_bag(counts.shape[1])}, or another objective"
            )
        return -_log_likelihoods(_padded(log_p, bags), counts, shape).sum() / len(outputs)


def whole_counts(bags: Bags) -> Tensor:
    """Return the class counts nearest to the responses, (bag, class), int64.

    Their sum over classes is the size of the bag: shares are rounded down, and the examples left go
    one by one to the classes with the largest remainders.
    """
    shares = bags.sizes[:, None] * to_proportions(bags.responses)
    counts = shares.floor()
    left = bags.sizes[:, None] - counts.sum(dim=1, keepdim=True)
    order = (shares - counts).argsort(dim=1, descending=True, stable=True)
    return (counts + (order.argsort(dim=1) < left)).long()


def _padded(log_p: Tensor, bags: Bags) -> Tensor:
    """Return log p by bag, (place, bag, class); empty places hold the last class for sure."""
    import torch

    order = bags.of_example.argsort(stable=True)
    of_example, starts = bags.of_example[order], bags.sizes.cumsum(0) - bags.sizes
    place = torch.arange(len(order), device=order.device) - starts[of_example]
    padded = log_p.new_full((int(bags.sizes.max()), len(bags), log_p.shape[1]), IMPOSSIBLE)
    padded[:, :, -1] = 0
    return padded.index_put((place, of_example), log_p[order])


def _log_likelihoods(log_p: Tensor, counts: Tensor, shape: list[int]) -> Tensor:
    """Return log P(K) of every bag, (bag,).

    Args:
        log_p: as `_padded` returns them.
        counts: K, (bag, class).
        shape: of the grid, an axis for every class but the last.
    """
    import torch

    so_far = log_p.new_full((len(counts), *shape), IMPOSSIBLE)
    so_far.flatten(1)[:, 0] = 0
    for by_class in log_p.unbind():
        chances = by_class.T.reshape(-1, len(counts), *[1] * len(shape)).unbind()
        before = [*(_one_less(so_far, axis + 1) for axis in range(len(shape))), so_far]
        so_far = torch.stack([b + c for b, c in zip(before, chances, strict=True)]).logsumexp(dim=0)
    return so_far[(torch.arange(len(counts), device=counts.device), *counts.T[:-1])]


def _one_less(grid: Tensor, axis: int) -> Tensor:
    """Return what the grid holds at one count less along an axis."""
    import torch

    first = torch.full_like(grid.narrow(axis, 0, 1), IMPOSSIBLE)
    return torch.cat([first, grid.narrow(axis, 0, grid.shape[axis] - 1)], dim=axis)
