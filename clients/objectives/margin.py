"""Margin control: keep local logits from growing without bound (FedLD, client half).

Source: Zeng et al., MICCAI 2024. `form` chooses between what the paper writes and what its released
code computes; they differ in value and in gradient, so a study should say which one it used.

- `logits` (paper): CE(Z, y) + lambda * mean_i log(1 + ||Z_i||^2)
- `batch_probabilities` (released code): CE(Z, y) + lambda * log(1 + ||P||_F^2), P = softmax(Z) over
  the whole batch. The penalty couples the examples of a batch and depends on the batch size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.objectives.base import Context, Objective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class Margin(Objective):
    """Cross-entropy plus a penalty on the size of the network's output.

    >>> Margin(weight=0.1).form
    'logits'
    """

    kind: Literal["margin"] = "margin"
    weight: float = Field(default=0.1, ge=0, allow_inf_nan=False, description="lambda")
    form: Literal["logits", "batch_probabilities"] = Field(
        default="logits", description="the paper's penalty, or that of its released code"
    )

    reference: ClassVar[str] = """@inproceedings{zeng2024fedld,
  title = {Tackling Data Heterogeneity in Federated Learning via Loss Decomposition},
  author = {Zeng, Shuang and Guo, Pengxin and Wang, Shuai and Wang, Jianbo and Zhou, Yuyin
            and Qu, Liangqiong},
  booktitle = {Medical Image Computing and Computer Assisted Intervention (MICCAI)},
  year = {2024},
}"""

    @property
    def couples_examples(self) -> bool:
        """Whether the penalty is on the whole batch."""
        return self.form == "batch_probabilities"

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return cross-entropy plus `weight` times the penalty, a scalar."""
        from torch.nn.functional import cross_entropy

        logits = model(batch.images)
        return cross_entropy(logits, batch.labels) + self.weight * self.penalty(logits)

    def penalty(self, logits: Tensor) -> Tensor:
        """Return the penalty without its weight.

        Args:
            logits: Z, (example, class).
        """
        if self.form == "logits":
            return logits.square().sum(dim=1).log1p().mean()
        return logits.softmax(dim=1).square().sum().log1p()
