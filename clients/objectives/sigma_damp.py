"""Sigma-damp: a logistic loss whose minimum lies at a finite margin.

Source: Puli, Zhang, Wald, Ranganath, Don't blame Dataset Shift! Shortcut Learning due to Gradients
and Cross Entropy, NeurIPS 2023 (arXiv:2308.12553), one of the losses called MARG-CTRL. With margin
u = y f, y in {-1, +1}: log(1 + exp(-u (1 - sigmoid(u / T)))), least at u = 1.278 T. The paper
itself was not at hand: the formula is quoted from memory and agrees with a third party's code.

Here f is the logit of the true class minus that of the other, so u needs no sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.objectives.base import Context, Objective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class SigmaDamp(Objective):
    """Logistic loss on a margin that is damped once it is large; for two classes.

    >>> SigmaDamp(temperature=2.0).binary_only
    True
    """

    kind: Literal["sigma_damp"] = "sigma_damp"
    temperature: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="T: the margin aimed at is 1.278 T"
    )

    binary_only: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{puli2023dont,
  title = {Don't Blame Dataset Shift! Shortcut Learning due to Gradients and Cross Entropy},
  author = {Puli, Aahlad Manas and Zhang, Lily and Wald, Yoav and Ranganath, Rajesh},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
}"""

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the mean damped logistic loss, a scalar."""
        import torch
        from torch.nn.functional import softplus

        logits = model(batch.images)
        true = logits.gather(1, batch.labels[:, None]).squeeze(1)
        margin = 2 * true - logits.sum(dim=1)
        damped = margin * (1 - torch.sigmoid(margin / self.temperature))
        return softplus(-damped).mean()
