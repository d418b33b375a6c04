"""Coordinate-wise trimmed mean.

Source: Yin, Chen, Ramchandran and Bartlett, ICML 2018 (arXiv 1803.01498), option II of algorithm 1:
of each coordinate the beta m largest and the beta m smallest values are left out and the others
averaged. Differences from the paper: beta m is rounded down; it is a rule on updates, not on
gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.coordinate_median import YIN
from strategies.coordinate_wise import CoordinateWise

if TYPE_CHECKING:
    from torch import Tensor


class TrimmedMean(CoordinateWise):
    """The mean of every coordinate without its extremes; all sites count the same.

    Robust while at most a fraction `beta` of the sites sends anything they like. With fewer than
    1 / beta sites nothing is cut.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[1.0], [2.0], [3.0], [900.0]])}
    >>> TrimmedMean(beta=0.25).aggregate(updates, torch.ones(4), {})[0]["bias"]
    tensor([2.5000])
    """

    kind: Literal["trimmed_mean"] = "trimmed_mean"
    beta: float = Field(
        default=0.2, ge=0, lt=0.5, description="fraction of the sites cut at either end"
    )

    reference: ClassVar[str] = YIN

    def of_sorted(self, columns: Tensor) -> Tensor:
        """Return the mean of the rows that are kept."""
        m = len(columns)
        cut = int(self.beta * m)
        return columns[cut : m - cut].mean(dim=0)
