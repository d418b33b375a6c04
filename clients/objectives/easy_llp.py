"""EasyLLP: the instance loss, corrected for the share of the other examples in a bag.

Source: Busa-Fekete, Choi, Dick, Gentile, Munoz Medina, Easy Learning from Label Proportions,
NeurIPS 2023 (arXiv:2302.03115), here for any number of classes and bags of any sizes. Per bag, in
the notation of `bagged`, with p* the class prior and l_ic = -log p_ic:

    mean_i sum_c (k pi_c - (k - 1) p*_c) l_ic.

Over random bags its expectation is that of the cross-entropy of single examples; in bags of size
one it is the cross-entropy, whatever the prior. A prior q in place of p* adds the bias

    (k - 1) sum_c (p*_c - q_c) E l_c,

which grows with the bags: with `prior: population` this is what label skew costs.

Coefficients are negative for classes that are rare in a bag, so there is no lower bound, and a deep
network will find that out. `flood_level` b turns a batch's loss L into |L - b| + b; with b = 0 this
is the absolute correction (ABS).

Noise in the responses is multiplied by k; of mean zero, it leaves the gradient unbiased (without
`flood_level`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.objectives.bagged import cross_entropy
from clients.objectives.debiased import DebiasedBagObjective

if TYPE_CHECKING:
    from torch import Tensor

    from clients.batch import Bags
    from clients.objectives.base import Context


class EasyLlp(DebiasedBagObjective):
    """Instance loss, debiased by the class prior (EasyLLP).

    >>> EasyLlp(flood_level=0.0).prior
    'site'
    """

    kind: Literal["easy_llp"] = "easy_llp"
    flood_level: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="b: a batch's loss L becomes |L - b| + b; 0 is its absolute value; default: L",
    )

    reference: ClassVar[str] = """@inproceedings{busafekete2023easy,
  title = {Easy Learning from Label Proportions},
  author = {Busa-Fekete, R{\\'o}bert and Choi, Heejin and Dick, Travis and Gentile, Claudio
            and {Mu{\\~n}oz Medina}, Andr{\\'e}s},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
}"""

    def bag_loss(self, outputs: Tensor, bags: Bags, context: Context) -> Tensor:
        """Return the debiased loss, a scalar."""
        k, prior = bags.sizes[:, None], self.class_prior(context, outputs)
        coefficients = k * bags.responses - (k - 1) * prior
        loss = cross_entropy(coefficients[bags.of_example], outputs.log_softmax(dim=1))
        if self.flood_level is None:
            return loss
        return (loss - self.flood_level).abs() + self.flood_level
