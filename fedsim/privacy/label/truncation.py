"""A public range for real-valued targets, without which no noise could hide one of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fedsim.plugins import Part


class Truncation(Part):
    """Targets outside a range are moved to its nearer end.

    The range must not come from the targets that it protects. Truncation is biased: it changes
    the mean target by E[(low - y)+] - E[(y - high)+], which no number of bags averages out; a wide
    range costs noise instead.

    >>> Truncation(low=0, high=1).truncate(np.array([-0.5, 0.25, 3.0, 1.0]))
    (array([0.  , 0.25, 1.  , 1.  ]), 0.5)
    """

    low: float = Field(allow_inf_nan=False, description="the least target that is told")
    high: float = Field(allow_inf_nan=False, description="the greatest")

    @model_validator(mode="after")
    def _ascending(self) -> Truncation:
        if self.low >= self.high:
            raise ValueError(f"expected low below high, got {self.low:g} and {self.high:g}")
        return self

    def truncate(self, targets: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Return the targets within the range, (example,), and the share that was moved.

        The share depends on the targets: it is for the simulator's own records, not a release.
        """
        inside = np.clip(targets, self.low, self.high)
        return inside, float((inside != targets).mean()) if len(targets) else 0.0
