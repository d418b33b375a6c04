"""Objectives that learn from bags: groups of examples of which the mean label alone is known.

Notation: bag a holds k_a examples, pi_a is its response, z_i and p_i are the logits and the
probabilities of example i, bars are means over a bag, n is the number of examples in the batch.
Every loss is weighted by examples, (1/n) sum_a k_a (loss of bag a), whatever the sizes of bags: so
the losses of batches, and of sites, add up as those of examples do.

A label that is known is a bag of size one with that label as its response.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from clients.batch import Bags
from clients.objectives.base import Context, Objective, Supervision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class BagObjective(Objective):
    """A loss of the network's outputs and of what is known of the bags that examples lie in."""

    takes: ClassVar[frozenset[Supervision]] = frozenset({"labels", "bags"})

    @property
    def couples_examples(self) -> bool:
        """Whether a loss is of more than one example: it is, of those in a bag."""
        return True

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the loss of the batch, a scalar; in float32 at least."""
        import torch

        outputs = model(batch.images)
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return self.bag_loss(outputs, known_bags(batch, outputs), context)

    @abstractmethod
    def bag_loss(self, outputs: Tensor, bags: Bags, context: Context) -> Tensor:
        """Return the loss, a scalar.

        Args:
            outputs: of the network: logits, (example, class), or one real number, (example, 1).
            bags: that the examples lie in; responses, (bag, class), in the dtype of the outputs.
            context: what else is known.
        """


def known_bags(batch: Batch, outputs: Tensor) -> Bags:
    """Return the bags of a batch, of size one where it has labels.

    Args:
        batch: the examples.
        outputs: of the network for them; they say how many classes there are.

    Returns:
        The bags, with responses in the dtype of the outputs: a one-hot row for a class, a row of
        zeros for one that is unknown, the label itself if it is a real number.
    """
    import torch

    if batch.bags is not None:
        return Bags(batch.bags.of_example, batch.bags.responses.to(outputs))
    responses = batch.labels[:, None]
    if not responses.is_floating_point():
        responses = responses == torch.arange(outputs.shape[1], device=outputs.device)
    return Bags(torch.arange(len(outputs), device=outputs.device), responses.to(outputs))


def over_examples(losses: Tensor, bags: Bags) -> Tensor:
    """Return (1/n) sum_a k_a l_a, a scalar, of the losses l_a of bags, (bag,)."""
    return (bags.sizes * losses).sum() / len(bags.of_example)


def cross_entropy(targets: Tensor, log_p: Tensor) -> Tensor:
    """Return -(1/n) sum_i sum_c t_ic log p_ic, a scalar.

    Args:
        targets: t, (example, class); they need not be probabilities.
        log_p: log-probabilities, (example, class).
    """
    return -(targets * log_p).sum(dim=1).mean()


def log_means(values: Tensor, bags: Bags) -> Tensor:
    """Return log mean_i exp(v_i) of every bag, (bag, class), without overflow or underflow.

    Args:
        values: v, (example, class), finite.
        bags: that the examples lie in.
    """
    fixed, index = values.detach(), bags.of_example[:, None].expand_as(values)
    top = fixed.new_zeros(len(bags), values.shape[1])
    top = top.scatter_reduce(0, index, fixed, "amax", include_self=False)
    return top + bags.means((values - top[bags.of_example]).exp()).log()


def to_proportions(values: Tensor) -> Tensor:
    """Return values (..., class) as proportions: below zero counts as none, the rest as shares.

    Where nothing is left, all classes count the same.

    >>> import torch
    >>> to_proportions(torch.tensor([[3.0, 1.0], [1.5, -0.5], [0.0, -2.0]]))
    tensor([[0.7500, 0.2500],
            [1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    kept = values.clamp(min=0)
    total = kept.sum(dim=-1, keepdim=True)
    return (kept / total.where(total > 0, 1)).where(total > 0, 1 / values.shape[-1])
