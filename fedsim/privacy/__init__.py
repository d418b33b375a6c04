"""What protects the people whose images are trained on, and what that costs.

Parts that a scenario names are here; `events`, `accounting`, `cross_checks`, `calibration`,
`attacks`, `ledger` and `balance` load dp_accounting, so they are imported where they are used.
"""

from fedsim.privacy.budget import Budget
from fedsim.privacy.example_level import ExampleLevel
from fedsim.privacy.mechanism import Mechanism
from fedsim.privacy.units import Relation, Unit

BUILTIN = (ExampleLevel,)

__all__ = ["BUILTIN", "Budget", "ExampleLevel", "Mechanism", "Relation", "Unit"]
