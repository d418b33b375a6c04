"""Loss on bags, loss on instances, and what lies between them.

Source: Javanmard, Chen, Mirrokni, Badanidiyuru, Fu, Learning from Aggregate Responses: Instance
Level versus Bag Level Loss Functions, ICLR 2024 (arXiv:2401.11081). The bag loss compares a bag's
response with its mean prediction, the instance loss with each prediction in it, and

    (1 - rho) L_bag + rho L_inst = L_bag + rho R,    R = L_inst - L_bag >= 0:

the instance loss is the bag loss with a regulariser that pulls the predictions of a bag together.
Per bag, in the notation of `bagged`, with A for logsumexp and sum_c pi_c = 1:

- `squared`: L_bag = ||pi - pbar||^2, L_inst = mean_i ||pi - p_i||^2, R = mean_i ||p_i - pbar||^2;
  where the network's output is one real number (regression), the same with outputs for p
- `cross_entropy`: L_bag = -sum_c pi_c log pbar_c, L_inst = -sum_c pi_c mean_i log p_ic
- `logit_cross_entropy`: L_bag = -sum_c pi_c log softmax(zbar)_c, L_inst as before,
  R = mean_i A(z_i) - A(zbar)

In bags of size one all are the supervised loss: Brier score, squared error, cross-entropy.

The paper itself was not at hand. Public reviews quote an R of its first version that is 2mk times
too large for m bags of size k; here it is what makes the identity hold, for bags of any sizes.

Noise in the responses: apart from terms without a gradient every loss here is affine in them, so
noise of mean zero leaves the gradient unbiased. Where noise takes a response below zero,
cross-entropy is finite but has no lower bound, and R can be negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from clients.objectives.bagged import BagObjective, cross_entropy, log_means, over_examples

if TYPE_CHECKING:
    from torch import Tensor

    from clients.batch import Bags
    from clients.objectives.base import Context

Criterion = Literal["squared", "cross_entropy", "logit_cross_entropy"]


class AggregateObjective(BagObjective):
    """A comparison of responses with predictions."""

    criterion: Criterion = Field(
        default="cross_entropy",
        description="how they are compared; cross-entropy of mean probabilities or of mean logits, "
        "or squared, which real numbers need",
    )

    @property
    def learns_numbers(self) -> bool:
        """Whether numbers can be compared so."""
        return self.criterion == "squared"

    reference: ClassVar[str] = """@inproceedings{javanmard2024learning,
  title = {Learning from Aggregate Responses: Instance Level versus Bag Level Loss Functions},
  author = {Javanmard, Adel and Chen, Lin and Mirrokni, Vahab and Badanidiyuru, Ashwinkumar
            and Fu, Gang},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2024},
}"""


class Bag(AggregateObjective):
    """Loss of the mean prediction of a bag against its response (proportion loss, DLLP).

    >>> Bag().criterion
    'cross_entropy'
    """

    kind: Literal["bag"] = "bag"

    def bag_loss(self, outputs: Tensor, bags: Bags, context: Context) -> Tensor:
        """Return the bag loss, a scalar."""
        return bag_risk(outputs, bags, self.criterion)


class Instance(AggregateObjective):
    """Loss of every prediction in a bag against the bag's response, as if it were the label.

    Both cross-entropies are the same here. Random bags shrink what is learned towards the class
    prior p*: the optimum is p* + (p - p*) / k. Ranking is kept, but the most probable class tends
    to be the most frequent one.

    >>> Instance(criterion="squared").kind
    'instance'
    """

    kind: Literal["instance"] = "instance"

    def bag_loss(self, outputs: Tensor, bags: Bags, context: Context) -> Tensor:
        """Return the instance loss, a scalar."""
        return instance_risk(outputs, bags, self.criterion)


class InterpolatedBag(AggregateObjective):
    """Bag loss and instance loss mixed, (1 - rho) L_bag + rho L_inst.

    >>> InterpolatedBag(rho=0.3).criterion
    'cross_entropy'
    """

    kind: Literal["interpolated_bag"] = "interpolated_bag"
    rho: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = Field(
        default=0.1,
        description="weight of R: 0 is the bag loss, 1 the instance loss; it may be more; `auto`: "
        "chosen by validation bags, in short trials before the run",
    )

    def bag_loss(self, outputs: Tensor, bags: Bags, context: Context) -> Tensor:
        """Return the mixture of both losses, a scalar.

        Raises:
            ValueError: while rho is open.
        """
        if self.rho == "auto":
            raise ValueError("rho is auto: a number must be chosen before anything is trained")
        of_bags = bag_risk(outputs, bags, self.criterion)
        of_instances = instance_risk(outputs, bags, self.criterion)
        return (1 - self.rho) * of_bags + self.rho * of_instances


def bag_risk(outputs: Tensor, bags: Bags, criterion: Criterion = "cross_entropy") -> Tensor:
    """Return (1/n) sum_a k_a L_bag, a scalar."""
    if criterion == "squared":
        distances = bags.responses - bags.means(_predictions(outputs))
        return over_examples(distances.square().sum(dim=1), bags)
    if criterion == "cross_entropy":
        log_p = log_means(outputs.log_softmax(dim=1), bags)
    else:
        log_p = bags.means(outputs).log_softmax(dim=1)
    return over_examples(-(bags.responses * log_p).sum(dim=1), bags)


def instance_risk(outputs: Tensor, bags: Bags, criterion: Criterion = "cross_entropy") -> Tensor:
    """Return (1/n) sum_a k_a L_inst, a scalar."""
    responses = bags.responses[bags.of_example]
    if criterion == "squared":
        return (responses - _predictions(outputs)).square().sum(dim=1).mean()
    return cross_entropy(responses, outputs.log_softmax(dim=1))


def _predictions(outputs: Tensor) -> Tensor:
    """Return class probabilities, or real numbers as they are."""
    return outputs if outputs.shape[1] == 1 else outputs.softmax(dim=1)
