"""Randomised response: every label is told, but not always the true one.

With C classes the true label is told with chance e^epsilon / (e^epsilon + C - 1), any other with
1 / (e^epsilon + C - 1): pure epsilon-label-DP of every example under `replace_one`. The same law:
with chance p = C / (e^epsilon + C - 1) a label is drawn from all classes alike.

Source: Warner, Journal of the American Statistical Association 1965; of more classes Kairouz, Oh
and Viswanath, JMLR 2016.
"""

from __future__ import annotations

from math import exp
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.plugins import Part
from fedsim.privacy.label.base import Epsilon
from fedsim.privacy.label.release import LabelRelease


class RandomisedResponse(Part):
    """Labels of single examples, told with mistakes of a known chance.

    >>> RandomisedResponse(epsilon=2.0).confusion(2).round(3)
    array([[0.881, 0.119],
           [0.119, 0.881]])
    """

    kind: Literal["randomised_response"] = "randomised_response"
    epsilon: Epsilon = Field(description="label-DP of every example")

    reference: ClassVar[str] = """@article{kairouz2016extremal,
  title = {Extremal Mechanisms for Local Differential Privacy},
  author = {Kairouz, Peter and Oh, Sewoong and Viswanath, Pramod},
  journal = {Journal of Machine Learning Research},
  year = {2016},
}"""

    def mislabel(
        self, labels: NDArray[np.int64], num_classes: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return the labels that are told, (example,).

        Args:
            labels: the true ones, (example,).
            num_classes: of the task.
            rng: the site's own stream, used for nothing else.
        """
        drawn = rng.random(len(labels)) < self._drawn_rate(num_classes)
        return np.where(drawn, rng.integers(num_classes, size=len(labels)), labels)

    def confusion(self, num_classes: int) -> NDArray[np.float64]:
        """Return P(label that is told | label), (label, label that is told)."""
        drawn_rate = self._drawn_rate(num_classes)
        kept: NDArray[np.float64] = (1 - drawn_rate) * np.eye(num_classes)
        return kept + drawn_rate / num_classes

    def event(self, num_classes: int) -> LabelRelease:
        """Return what telling every label once costs.

        Args:
            num_classes: of the task.
        """
        from dp_accounting.dp_event import RandomizedResponseDpEvent

        return LabelRelease(
            what="labels by randomised response",
            public="images",
            relation="replace_one",
            event=RandomizedResponseDpEvent(self._drawn_rate(num_classes), num_classes),
        )

    def _drawn_rate(self, num_classes: int) -> float:
        """Return p, the share of labels that are drawn from all classes alike."""
        others = exp(-self.epsilon)
        return num_classes * others / (1 + (num_classes - 1) * others)
