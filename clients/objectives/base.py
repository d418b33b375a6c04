"""What every local objective is: a scalar that a client minimises on each batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch

Supervision = Literal["labels", "bags", "nothing"]
"""What a site knows of the labels of its examples."""


@dataclass(frozen=True)
class Context:
    """What an objective may know beyond the batch.

    Args:
        class_counts: training examples of this site per class, (class,): as its labels say, int64,
            or as its bags' responses do, float32, noise and all.
        population_counts: the same for all sites together; None where a site cannot know it.
        confusion: P(label that is shown | label), (class, class), where labels were made wrong by
            a known chance; None where they were not.
        progress: share of the run's rounds that is behind, from 0 to below 1.
    """

    class_counts: Tensor
    population_counts: Tensor | None = None
    confusion: Tensor | None = None
    progress: float = 0.0


class Objective(BaseModel, ABC):
    """A local objective: empirical risk on the batch plus a regulariser."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    takes: ClassVar[frozenset[Supervision]] = frozenset({"labels"})
    """What it can learn from."""
    binary_only: ClassVar[bool] = False
    """Whether the objective is for two classes alone."""
    reference: ClassVar[str] = ""
    """BibTeX of the paper the objective comes from."""

    @property
    def couples_examples(self) -> bool:
        """Whether the loss of a batch is anything but the mean of losses of single examples.

        Only a mean can be had from the parts of a batch, by adding up gradients.
        """
        return False

    @property
    def learns_classes(self) -> bool:
        """Whether it is for labels that are classes."""
        return True

    @property
    def learns_numbers(self) -> bool:
        """Whether it is for labels that are real numbers."""
        return False

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, context: Context) -> Tensor:
        """Return the objective on one batch, a scalar that can be differentiated."""
