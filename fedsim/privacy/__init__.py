"""What protects the people whose images are trained on, and what that costs.

Parts that a scenario names are here; `events`, `accounting`, `cross_checks`, `calibration`,
`attacks`, `ledger` and `balance` load dp_accounting, `clipping`, `private_mean` and
`correlated_mean` load torch, so they are imported where they are used.
"""

from fedsim.privacy.bag_level import BagLevel
from fedsim.privacy.budget import Budget
from fedsim.privacy.client_level import ClientLevel
from fedsim.privacy.distributed import Distributed
from fedsim.privacy.dp_ftrl import DpFtrl
from fedsim.privacy.example_level import ExampleLevel
from fedsim.privacy.local import Local
from fedsim.privacy.mechanism import AggregateMechanism, Mechanism
from fedsim.privacy.patient_level import PatientLevel
from fedsim.privacy.units import Relation, Unit

BUILTIN = (ExampleLevel, PatientLevel, BagLevel, ClientLevel, Local, Distributed, DpFtrl)

__all__ = [
    "BUILTIN",
    "AggregateMechanism",
    "BagLevel",
    "Budget",
    "ClientLevel",
    "Distributed",
    "DpFtrl",
    "ExampleLevel",
    "Local",
    "Mechanism",
    "PatientLevel",
    "Relation",
    "Unit",
]
