"""What one site tells of its labels, as its ledger has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.privacy.units import Relation

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent


@dataclass(frozen=True)
class LabelRelease:
    """Everything that one site tells of its labels.

    Its examples lie in disjoint bags, or are told one by one, so one change of a label touches one
    bag: the site's event is that of a single bag (parallel composition), and the epsilon of a
    federation whose sites share no example is the largest of its sites'. Bags that are drawn anew
    tell of the same labels again (sequential composition).

    Args:
        what: is told.
        public: what is taken to be known to everyone.
        relation: between the labels that must be hard to tell apart.
        event: of all draws together, with noise in units of the sensitivity in `relation`. So noise
            that is added is accounted as REPLACE_SPECIAL, which takes the sensitivity to be 1 where
            REPLACE_ONE would double it; randomised response as REPLACE_ONE.
    """

    what: str
    public: str
    relation: Relation
    event: DpEvent
