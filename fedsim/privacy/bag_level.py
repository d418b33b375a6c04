"""Bag-level privacy: DP-SGD in which each bag of a site is one unit, its images and its response.

The objective is shown one bag at a time, so the loss of a bag is a function of what is in it, and
so is its gradient, which is clipped to C. Neighbours differ in that a blank bag, which adds
nothing, stands in the place of one bag (replace-special): the sum moves by C at most. How many bags
there are, how many images each has and which images share one is public; bags must be drawn once
and by chance or by a column, or one image would move others into other bags.

A single image, or the label of one, is hidden as a part of its bag: neighbours that differ in one
image differ in one bag. But another image in its place may turn the clipped gradient of the bag
round, which is 2 C: for this relation (replace-one) the same noise counts as sigma / 2. The ledger
has the promise for bags.

q = B / n, so that B images are expected in a step, of q U bags if there are U. Every bag counts
alike, whatever its size. Noise that sites put on responses protects labels against whoever trains,
another promise by another line of the ledger; what is trained on them costs labels no more.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from fedsim.privacy.dp_sgd import DpSgdMechanism
from fedsim.privacy.units import Unit


class BagLevel(DpSgdMechanism):
    """DP-SGD in the client: clipped gradients of whole bags, noise in every step."""

    kind: Literal["bag_level"] = "bag_level"

    unit: ClassVar[Unit] = "bag"
