"""How examples are spread over sites."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedsim.plugins import Part


class Partition(Part, ABC):
    """A rule that gives every example to exactly one site."""

    kind: str

    @abstractmethod
    def split(
        self,
        labels: Mapping[str, NDArray[np.int64]],
        num_sites: int,
        num_classes: int,
        rng: np.random.Generator,
    ) -> list[dict[str, NDArray[np.int64]]]:
        """Return for each site and split the sorted indices of its examples."""
