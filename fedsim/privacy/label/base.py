"""What every mechanism for the aggregates of bags is: a law of noise that one label hides in.

A simulation, not a hardened release: noise is drawn from a named stream that whoever holds the
scenario can repeat, and where it is a floating-point number its last bits can tell what it was
added to (Mironov, On Significance of the Least Significant Bits for Differential Privacy, CCS
2012). `geometric` draws whole numbers and has no such bits, up to how well the generator follows
its law.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.errors import InputError
from fedsim.plugins import Part
from fedsim.privacy.label.release import LabelRelease
from fedsim.privacy.label.sensitivity import (
    NEIGHBOURS,
    Relation,
    Sensitivity,
    of_counts,
    of_sums,
)
from fedsim.privacy.label.truncation import Truncation

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

Epsilon = Annotated[float, Field(ge=1e-3, le=1e6)]
"""What one release costs; beyond these numbers it says nothing, or everything."""


class LabelPrivacy(Part, ABC):
    """Noise on what a site tells of its bags.

    Noise is added to sums over bags, whose sensitivity is that of one label whatever the size k of
    the bag. So what is added to a proportion or a mean has a scale of 1/k: large bags hide one
    label with less noise.

    Noisy proportions may be negative or beyond 1, and of more than two classes need not sum to 1.
    They are without bias, so losses that are affine in them have gradients without bias; `project`
    makes them proportions, with a bias and at no cost in privacy.
    """

    kind: str
    epsilon: Epsilon = Field(description="label-DP of one release; drawing bags anew costs it anew")
    relation: Relation = Field(
        default="replace_one",
        description="what is hidden: that one label is another one, or (weaker) counts for nothing",
    )
    whole_numbers: ClassVar[bool] = False
    """Whether the noise is for counts alone, and not for sums of real-valued targets."""
    reference: ClassVar[str] = ""
    """BibTeX of the paper the mechanism comes from."""

    def release(
        self, counts: NDArray[np.int64], sizes: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return noisy proportions of classes, (bag, class).

        Args:
            counts: examples per class, (bag, class).
            sizes: examples, (bag,), positive.
            rng: the site's own stream, used for nothing else.
        """
        num_classes = counts.shape[1]
        scale = self.scale(of_counts(num_classes, self.relation))
        if num_classes > 2:
            return (counts + self.noise(scale, counts.shape, rng)) / sizes[:, None]
        second = (counts[:, 1] + self.noise(scale, sizes.shape, rng)) / sizes
        return np.stack([1 - second, second], axis=1)

    def release_means(
        self,
        means: NDArray[np.float64],
        sizes: NDArray[np.int64],
        truncation: Truncation,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Return noisy means of real-valued targets, (bag,).

        Args:
            means: of targets that were truncated before, (bag,).
            sizes: examples, (bag,), positive.
            truncation: the range that they were truncated to.
            rng: the site's own stream, used for nothing else.

        Raises:
            InputError: if the noise is for counts alone.
        """
        scale = self.scale(self._of_sums(truncation))
        return means + self.noise(scale, sizes.shape, rng) / sizes

    def event(self, num_classes: int, num_draws: int = 1) -> LabelRelease:
        """Return what releases of class counts cost.

        Args:
            num_classes: of the task.
            num_draws: how many bags hold the same example: those of all divisions together.
        """
        return self._event(of_counts(num_classes, self.relation), num_draws, "class proportions")

    def event_of_means(self, truncation: Truncation, num_draws: int = 1) -> LabelRelease:
        """Return what releases of mean targets cost.

        Args:
            truncation: the range of the targets.
            num_draws: how many bags hold the same example: those of all divisions together.

        Raises:
            InputError: if the noise is for counts alone.
        """
        within = f"the range of targets from {truncation.low:g} to {truncation.high:g}"
        told = self._of_sums(truncation)
        return self._event(told, num_draws, "mean targets", ("images", within))

    @abstractmethod
    def scale(self, sensitivity: Sensitivity) -> float:
        """Return the parameter of the noise on a sum over a bag, in units of that sum."""

    @abstractmethod
    def noise(
        self, scale: float, shape: tuple[int, ...], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return independent draws of noise of this scale."""

    @abstractmethod
    def variance(self, scale: float) -> float:
        """Return the variance of noise of this scale."""

    @abstractmethod
    def dp_event(self, scale: float, sensitivity: Sensitivity) -> DpEvent:
        """Return one release with noise of this scale, in dp_accounting's words."""

    def _of_sums(self, truncation: Truncation) -> Sensitivity:
        if self.whole_numbers:
            raise InputError(
                f"label privacy of kind {self.kind} adds whole numbers to counts of classes: "
                "take laplace or gaussian for real-valued targets"
            )
        return of_sums(truncation, self.relation)

    def _event(
        self,
        sensitivity: Sensitivity,
        num_draws: int,
        what: str,
        public: Sequence[str] = ("images",),
    ) -> LabelRelease:
        from dp_accounting.dp_event import SelfComposedDpEvent

        event = self.dp_event(self.scale(sensitivity), sensitivity)
        return LabelRelease(
            what=f"{what} of bags",
            public=", ".join(("bag membership", "bag sizes", *public[:-1])) + f" and {public[-1]}",
            relation=NEIGHBOURS[self.relation],
            event=event if num_draws == 1 else SelfComposedDpEvent(event, num_draws),
        )
