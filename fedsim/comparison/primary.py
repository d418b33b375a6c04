"""What a study said beforehand that it would compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clients.metrics import METRICS
from fedsim.comparison.estimates import CONFIDENCE
from fedsim.comparison.power import POWER


@dataclass(frozen=True)
class Primary:
    """The primary comparison of a study.

    Args:
        metric: its name.
        split: on whose images, "test" or "external".
        pooled: over the images of all sites together; else the unweighted mean over sites.
        reference: the method that all others are compared to.
        smallest_difference: of interest, None without one.
        model: "final" or "best" (by validation images).
        target: validation value of the metric whose time is reported, None without one.
        tuned_by: metric on validation images that chose every method's values.
        confidence: of intervals, and 1 minus the family-wise level.
        power: wanted.
        confirmatory: methods that are tested against the reference, None for all others.
    """

    metric: str
    split: str
    pooled: bool
    reference: str
    smallest_difference: float | None
    model: str
    target: float | None
    tuned_by: str
    confidence: float
    power: float
    confirmatory: tuple[str, ...] | None = None

    @classmethod
    def of(cls, analysis: Mapping[str, Any]) -> Primary:
        """Return what `study.json` holds of it."""
        return cls(
            metric=analysis["metric"],
            split=analysis["split"],
            pooled=analysis["pooled"],
            reference=analysis["reference"],
            smallest_difference=analysis.get("smallest_difference_of_interest"),
            model=analysis.get("model", "final"),
            target=analysis.get("target"),
            tuned_by=analysis.get("tuned_by", analysis["metric"]),
            confidence=analysis.get("confidence", CONFIDENCE),
            power=analysis.get("power", POWER),
            confirmatory=analysis.get("confirmatory") and tuple(analysis["confirmatory"]),
        )

    def tests(self, method: str) -> bool:
        """Whether a method is one of those that are tested against the reference."""
        if self.confirmatory is None:
            return method != self.reference
        return method in self.confirmatory

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return METRICS[self.metric].higher_is_better

    @property
    def alpha(self) -> float:
        """Family-wise level."""
        return round(1 - self.confidence, 12)
