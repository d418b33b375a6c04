"""What is told of labels, what it costs and what is promised about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

    from fedsim.privacy.label.sensitivity import Relation

CHANGES: dict[Relation, str] = {
    "replace_one": "replacing one example's label",
    "zero_out": "counting one example's label as nothing",
}


class Cost(NamedTuple):
    """An (epsilon, delta) that a release keeps; pure where delta is 0."""

    epsilon: float
    delta: float = 0.0


@dataclass(frozen=True)
class LabelRelease:
    """Everything that one site tells of its labels.

    Its examples lie in disjoint bags, or are told one by one, so one change of a label touches one
    bag: the site's epsilon is that of a single bag (parallel composition), and that of a federation
    whose sites share no example is the largest of its sites'. Bags that are drawn anew tell of the
    same labels again (sequential composition).

    Args:
        what: is told.
        public: what is told without protection.
        relation: between the labels that must be hard to tell apart.
        cost: of all draws together.
        cost_replace_one: the same in the relation `replace_one`.
        event: of all draws together, with noise in units of the sensitivity in `relation`. So noise
            that is added is accounted as REPLACE_SPECIAL, which takes the sensitivity to be 1 where
            REPLACE_ONE would double it; randomised response as REPLACE_ONE.
    """

    unit: ClassVar = "label"

    what: str
    public: str
    relation: Relation
    cost: Cost
    cost_replace_one: Cost
    event: DpEvent


def promise(release: LabelRelease, where: str = "at each site") -> str:
    """Return in one sentence what an epsilon means, and for what it means nothing.

    Args:
        release: what is told.
        where: whose labels it is about.
    """
    (epsilon, delta), another = release.cost, release.cost_replace_one.epsilon
    slack, more = (f", delta = {delta:g}", f" plus {delta:g}") if delta else ("", "")
    change = CHANGES[release.relation]
    if release.relation != "replace_one":
        change += f" (replacing it by another: epsilon = {another:.4g})"
    return (
        f"epsilon = {epsilon:.4g}{slack} label-DP {where}: {change} changes the probability of any "
        f"released {release.what} by at most a factor of e^{epsilon:.4g}{more}; "
        f"{release.public} are public"
    )
