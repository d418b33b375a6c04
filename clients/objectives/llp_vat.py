"""LLP-VAT: the bag loss, and predictions that stay the same near every image.

Source: Tsai and Lin, Learning from Label Proportions with Consistency Regularization, ACML 2020,
with the virtual adversarial training of Miyato et al., 2018. In the notation of `bagged`,

    L_bag + w(t) mean_i KL(p(x_i) || p(x_i + r_i)),    r = eps g / ||g||,
    g = gradient in d, at the last d, of KL(p(x) || p(x + xi d)),

L_bag the bag's cross-entropy, d at first a random direction of length one, then g / ||g||; nothing
but p(x + r) passes a gradient on. The second term needs no label: a site without any has it alone.
The weight rises as in the released code, w(t) = w exp(-5 (1 - t / ramp)^2) up to t = ramp, with t
the share of the run's rounds that is behind (there: iterations).

In bags of size one it is the cross-entropy plus that term. Noise in the responses: as for `bag`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.objectives.bag import Bag
from clients.objectives.base import Context, Objective, Supervision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class LlpVat(Objective):
    """Bag loss plus virtual adversarial training; takes sites that know no labels too.

    A step shows its images to the network 3 + `num_power_iterations` times in place of once. Only
    the pass for the bag loss, which is the last, moves the statistics of normalisation. Random
    directions come from torch's default generator.

    >>> LlpVat(ramp=0.5).weight_at(0.5)
    0.05
    """

    kind: Literal["llp_vat"] = "llp_vat"
    weight: float = Field(default=0.05, ge=0, allow_inf_nan=False, description="w")
    ramp: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the run over which the weight rises to w; 0: it is w from the start",
    )
    radius: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="eps: length of r, in L2 over a normalised image",
    )
    probe: float = Field(
        default=10.0,
        gt=0,
        allow_inf_nan=False,
        description="xi: length at which directions are probed",
    )
    num_power_iterations: int = Field(default=1, ge=0, description="0 leaves d random")

    takes: ClassVar[frozenset[Supervision]] = frozenset({"labels", "bags", "nothing"})
    reference: ClassVar[str] = """@inproceedings{tsai2020learning,
  title = {Learning from Label Proportions with Consistency Regularization},
  author = {Tsai, Kuen-Han and Lin, Hsuan-Tien},
  booktitle = {Asian Conference on Machine Learning (ACML)},
  year = {2020},
}"""

    @property
    def couples_examples(self) -> bool:
        """Whether a loss is of more than one example: it is, of those in a bag."""
        return True

    def weight_at(self, progress: float) -> float:
        """Return w(t).

        Args:
            progress: t, from 0 to 1.
        """
        if progress >= self.ramp:
            return self.weight
        return self.weight * math.exp(-5 * (1 - progress / self.ramp) ** 2)

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the bag loss plus the weighted divergence, a scalar."""
        weight = self.weight_at(context.progress)
        if weight == 0:
            return Bag().loss(model, batch, context)
        roughness = self.roughness(model, batch.images)
        return Bag().loss(model, batch, context) + weight * roughness

    def roughness(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return mean_i KL(p(x_i) || p(x_i + r_i)), a scalar.

        Args:
            model: its gradients and buffers are left as they are.
            images: x, (example, channel, height, width).
        """
        import torch

        with torch.no_grad():
            log_p = _log_probabilities(model, images)
        direction = _unit(torch.randn_like(images))
        for _ in range(self.num_power_iterations):
            direction.requires_grad_()
            probed = _log_probabilities(model, images + self.probe * direction)
            (gradient,) = torch.autograd.grad(_divergences(log_p, probed).sum(), direction)
            direction = _unit(gradient)
        moved = _log_probabilities(model, images + self.radius * direction)
        return _divergences(log_p, moved).mean()


def _log_probabilities(model: nn.Module, images: Tensor) -> Tensor:
    """Return log p, (example, class), with copies of the buffers in place of the model's own."""
    from torch.func import functional_call

    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    logits: Tensor = functional_call(model, buffers, (images,))
    return logits.log_softmax(dim=1)


def _divergences(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p_i || q_i), (example,)."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def _unit(directions: Tensor) -> Tensor:
    """Return directions (example, ...) of length one; those of length zero stay."""
    from torch.nn.functional import normalize

    return normalize(directions.flatten(1), dim=1).view_as(directions)
