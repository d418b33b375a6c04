"""Focal loss: cross-entropy that looks away from examples which are classified well already.

Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.objectives import Context, Objective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class Focal(Objective):
    """Mean of -(1 - p)^gamma log p, with p the probability of the true class."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0, description="0 is cross-entropy")

    reference: ClassVar[str] = """@inproceedings{lin2017focal,
  title = {Focal Loss for Dense Object Detection},
  author = {Lin, Tsung-Yi and Goyal, Priya and Girshick, Ross and He, Kaiming
            and Doll{\\'a}r, Piotr},
  booktitle = {IEEE International Conference on Computer Vision (ICCV)},
  year = {2017},
}"""

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the loss of the batch, a scalar."""
        from torch.nn.functional import cross_entropy

        entropy = cross_entropy(model(batch.images), batch.labels, reduction="none")
        return ((1 - (-entropy).exp()) ** self.gamma * entropy).mean()
