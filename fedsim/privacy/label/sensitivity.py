"""How far one label can move what is told of its bag.

Noise is added to sums over a bag: counts of examples per class, or the sum of real targets. Their
sensitivity does not depend on the size of the bag, that of proportions and means is 1 / size of it.
Which bag an example is in, how many there are and their sizes never depend on labels.

Relations between two sets of labels of the same examples:

- `replace_one`: the label of one example is another one.
- `zero_out`: the label of one example counts for nothing: for no class, or for a target of zero.
  The weaker promise: where it halves the sensitivity it halves the noise, and hides a change from
  one label to another half as well.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal, NamedTuple

from fedsim.privacy import units
from fedsim.privacy.label.truncation import Truncation

Relation = Literal["replace_one", "zero_out"]
"""What two sets of labels differ by that must be hard to tell apart."""
NEIGHBOURS: dict[Relation, units.Relation] = {
    "replace_one": "replace_one",
    "zero_out": "replace_special",
}
"""What the ledger calls it."""


class Sensitivity(NamedTuple):
    """Norms of the largest change of a release.

    Args:
        l1: sum of absolute changes.
        l2: root of the sum of squares.
    """

    l1: float
    l2: float


def of_counts(num_classes: int, relation: Relation) -> Sensitivity:
    """Return the sensitivity of the class counts of a bag.

    Of two classes only the second one's count is told, from which the first one's follows: one
    label moves it by 1 in either relation. Of more classes all are told, and a label that is
    replaced moves two of them by 1.

    >>> of_counts(2, "replace_one"), of_counts(5, "replace_one").l1, of_counts(5, "zero_out").l1
    (Sensitivity(l1=1.0, l2=1.0), 2.0, 1.0)
    """
    if num_classes == 2 or relation == "zero_out":
        return Sensitivity(1.0, 1.0)
    return Sensitivity(2.0, sqrt(2))


def of_sums(truncation: Truncation, relation: Relation) -> Sensitivity:
    """Return the sensitivity of the sum of a bag's truncated targets.

    >>> of_sums(Truncation(low=-1, high=1), "replace_one").l1
    2.0
    """
    low, high = truncation.low, truncation.high
    change = high - low if relation == "replace_one" else max(abs(low), abs(high))
    return Sensitivity(change, change)
