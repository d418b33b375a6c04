"""Coordinate-wise median.

Source: Yin, Chen, Ramchandran and Bartlett, ICML 2018 (arXiv 1803.01498), option I of algorithm 1.
Of an even number of sites it is the mean of the two in the middle. Differences from the paper: it
takes the median of gradients, this that of updates, which is the global model plus the median of
the local ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from strategies.coordinate_wise import CoordinateWise

if TYPE_CHECKING:
    from torch import Tensor

YIN = """@inproceedings{yin2018byzantine,
  title = {{Byzantine}-Robust Distributed Learning: Towards Optimal Statistical Rates},
  author = {Yin, Dong and Chen, Yudong and Ramchandran, Kannan and Bartlett, Peter},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2018},
}"""


class CoordinateMedian(CoordinateWise):
    """The median of every coordinate over the sites, which all count the same.

    Robust while fewer than half of the sites send anything they like.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[1.0], [2.0], [900.0]])}
    >>> CoordinateMedian().aggregate(updates, torch.ones(3), {})[0]["bias"]
    tensor([2.])
    """

    kind: Literal["coordinate_median"] = "coordinate_median"

    reference: ClassVar[str] = YIN

    def of_sorted(self, columns: Tensor) -> Tensor:
        """Return the value in the middle, or the mean of the two there."""
        m = len(columns)
        return (columns[(m - 1) // 2] + columns[m // 2]) / 2
