"""Local objectives: what a client minimises. One method, one file, one name in `BUILTIN`."""

from clients.objectives.base import Context, Objective
from clients.objectives.cross_entropy import CrossEntropy
from clients.objectives.margin import Margin

BUILTIN = (CrossEntropy, Margin)

__all__ = ["BUILTIN", "Context", "CrossEntropy", "Margin", "Objective"]
