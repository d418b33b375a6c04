"""Cross-entropy, with class weights if asked: the empirical risk of classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from clients.objectives.base import Context, Objective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Weight of a class. Not 0: a batch of such classes alone would have no mean."""


class CrossEntropy(Objective):
    """Mean negative log likelihood of the true class.

    With `class_weights` the mean is weighted as torch does: sum of w_y * loss over sum of w_y.
    `balanced` gives class c the weight n / (C n_c) from this site's own training labels (classes
    that the site does not hold get 0), the convention of scikit-learn.

    >>> CrossEntropy(class_weights=(1.0, 3.0)).kind
    'cross_entropy'
    """

    kind: Literal["cross_entropy"] = "cross_entropy"
    class_weights: Literal["balanced"] | tuple[Weight, ...] | None = Field(
        default=None, description="weights per class, `balanced`, or none"
    )

    @property
    def couples_examples(self) -> bool:
        """Whether the mean is weighted: then the weights of a batch divide it."""
        return self.class_weights is not None

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the (weighted) mean cross-entropy of the batch, a scalar."""
        from torch.nn.functional import cross_entropy

        logits = model(batch.images)
        return cross_entropy(logits, batch.labels, weight=self._weights(logits, context))

    def _weights(self, logits: Tensor, context: Context) -> Tensor | None:
        if self.class_weights is None:
            return None
        if self.class_weights == "balanced":
            counts = context.class_counts.to(logits)
            weights = counts.sum() / (len(counts) * counts)
            return weights.where(counts > 0, 0.0)
        return logits.new_tensor(self.class_weights)
