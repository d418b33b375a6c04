"""Spectral decoupling: a quadratic penalty on the logits in place of weight decay.

Source: Pezeshki et al., Gradient Starvation, NeurIPS 2021 (arXiv:2011.09468): with y in {-1, +1}
and one output f, log(1 + exp(-y f)) + (lambda / 2) f^2. Its released code writes c f^2, averaged
over the batch, so c is lambda / 2.

Here for any number of classes, with Z the logits: CE(Z, y) + (lambda / 2) * mean_i ||Z_i||^2. For
two classes, with f their difference and s their sum, ||Z_i||^2 = (f^2 + s^2) / 2: where logits are
opposite, (-f/2, f/2), this is the published loss with half its lambda.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.objectives.base import Context, Objective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class SpectralDecoupling(Objective):
    """Cross-entropy plus a penalty on the squared size of the network's output.

    >>> SpectralDecoupling(weight=0.01).kind
    'spectral_decoupling'
    """

    kind: Literal["spectral_decoupling"] = "spectral_decoupling"
    weight: float = Field(default=0.01, ge=0, allow_inf_nan=False, description="lambda")

    reference: ClassVar[str] = """@inproceedings{pezeshki2021gradient,
  title = {Gradient Starvation: A Learning Proclivity in Neural Networks},
  author = {Pezeshki, Mohammad and Kaba, S{\\'e}kou-Oumar and Bengio, Yoshua and Courville, Aaron
            and Precup, Doina and Lajoie, Guillaume},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2021},
}"""

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return cross-entropy plus the weighted penalty, a scalar."""
        from torch.nn.functional import cross_entropy

        logits: Tensor = model(batch.images)
        penalty = logits.square().sum(dim=1).mean()
        return cross_entropy(logits, batch.labels) + self.weight / 2 * penalty
