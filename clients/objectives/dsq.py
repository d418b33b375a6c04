"""DSQ: the squared loss of bags, corrected for what the mean of a bag cannot show.

Source: Li, Chen, Javanmard, Mirrokni, Optimistic Rates for Learning from Label Proportions, COLT
2024 (arXiv:2406.00487), here for any number of classes and bags of any sizes; the formula is that
of third parties' code. Per bag, in the notation of `bagged`, with p* the class prior:

    k ||pi - pbar||^2 - (k - 1) ||E p - p*||^2.

Over random bags its expectation is that of the Brier score of single examples, sum_c (y_c - p_c)^2,
which it is in bags of size one, whatever the prior. A prior q in place of p* adds the bias
(k - 1) (||E p - p*||^2 - ||E p - q||^2).

Here E p is the mean over the batch, which makes the second term (k - 1) Var(p) / n too large in a
batch of n. The loss is bounded: at least -2 (k - 1).

Noise in the responses: apart from a term without gradient the loss is affine in them, so noise of
mean zero leaves the gradient unbiased.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from clients.objectives.bagged import over_examples
from clients.objectives.debiased import DebiasedBagObjective

if TYPE_CHECKING:
    from torch import Tensor

    from clients.batch import Bags
    from clients.objectives.base import Context


class Dsq(DebiasedBagObjective):
    """Squared bag loss, debiased by the class prior (DSQ).

    >>> Dsq().kind
    'dsq'
    """

    kind: Literal["dsq"] = "dsq"

    reference: ClassVar[str] = """@inproceedings{li2024optimistic,
  title = {Optimistic Rates for Learning from Label Proportions},
  author = {Li, Gene and Chen, Lin and Javanmard, Adel and Mirrokni, Vahab},
  booktitle = {Conference on Learning Theory (COLT)},
  year = {2024},
}"""

    def bag_loss(self, outputs: Tensor, bags: Bags, context: Context) -> Tensor:
        """Return the debiased squared loss, a scalar."""
        p, k = outputs.softmax(dim=1), bags.sizes
        apart = (bags.responses - bags.means(p)).square().sum(dim=1)
        off = (p.mean(dim=0) - self.class_prior(context, outputs)).square().sum()
        return over_examples(k * apart - (k - 1) * off, bags)
