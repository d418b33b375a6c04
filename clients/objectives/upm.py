"""UPM: EasyLLP with a variance that does not grow with the bags.

Source: Applebaum, Dick, Gentile, Kaplan, Koren, Optimal Learning from Label Proportions with
General Loss Functions, 2025 (arXiv:2509.15145); the formula is that of third parties' code. Per
bag, in the notation of `bagged`, with p* the class prior, l_ic = -log p_ic and E_c = E l_c:

    sum_c (pi_c - p*_c) sum_i (l_ic - E_c) + sum_c p*_c E_c.

Over random bags its expectation is that of the cross-entropy of single examples. A prior q in place
of p* adds the bias sum_c (q_c - p*_c) E l_c, which does not grow with the bags.

Here E_c is the mean over the batch, through which gradients pass. That takes a share 1/m of the
first sum away in a batch of m equal bags, so batches of many bags are called for. A site as one
batch of equal bags, with the prior of its responses, has EasyLLP's value; in bags of size one that
is the cross-entropy. Other batches of single examples have it in expectation only.

Noise in the responses: the loss is affine in them, so noise of mean zero leaves the gradient
unbiased; below zero there is no lower bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from clients.objectives.bagged import over_examples
from clients.objectives.debiased import DebiasedBagObjective

if TYPE_CHECKING:
    from torch import Tensor

    from clients.batch import Bags
    from clients.objectives.base import Context


class Upm(DebiasedBagObjective):
    """Instance loss, debiased by the class prior with less variance than `easy_llp`.

    >>> Upm(prior="population").kind
    'upm'
    """

    kind: Literal["upm"] = "upm"

    reference: ClassVar[str] = """@misc{applebaum2025optimal,
  title = {Optimal Learning from Label Proportions with General Loss Functions},
  author = {Applebaum, Lorne and Dick, Travis and Gentile, Claudio and Kaplan, Haim
            and Koren, Tomer},
  year = {2025},
  eprint = {2509.15145},
  archiveprefix = {arXiv},
}"""

    def bag_loss(self, outputs: Tensor, bags: Bags, context: Context) -> Tensor:
        """Return the centred debiased loss, a scalar."""
        losses, prior = -outputs.log_softmax(dim=1), self.class_prior(context, outputs)
        expected = losses.mean(dim=0)
        excess = bags.sizes[:, None] * bags.means(losses - expected)
        of_bags = ((bags.responses - prior) * excess).sum(dim=1)
        return over_examples(of_bags, bags) + (prior * expected).sum()
