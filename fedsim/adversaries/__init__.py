"""Sites that attack the training of a simulated study, and what they send.

Everything here is a function of labels, updates and named random streams: nothing knows of Flower,
and torch is never imported.
"""

from fedsim.adversaries.adversary import Adversary, OmniscientAttack, UpdateAttack
from fedsim.adversaries.attackers import Attackers, choose, num_drawn, text
from fedsim.adversaries.label_flip import LabelFlip
from fedsim.adversaries.omniscient import InnerProduct, LittleIsEnough
from fedsim.adversaries.update_attacks import Gaussian, ScaledUpdate, SignFlip

BUILTIN = (LabelFlip, SignFlip, ScaledUpdate, Gaussian, InnerProduct, LittleIsEnough)

__all__ = [
    "BUILTIN",
    "Adversary",
    "Attackers",
    "Gaussian",
    "InnerProduct",
    "LabelFlip",
    "LittleIsEnough",
    "OmniscientAttack",
    "ScaledUpdate",
    "SignFlip",
    "UpdateAttack",
    "choose",
    "num_drawn",
    "text",
]
