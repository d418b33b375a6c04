"""What is added to a local objective against the drift of sites that train apart.

One method, one file, one name in `BUILTIN`.
"""

from clients.regularisers.base import Finished, Local, Regulariser
from clients.regularisers.contrastive import Contrastive
from clients.regularisers.control_variates import ControlVariates
from clients.regularisers.dynamic import Dynamic
from clients.regularisers.proximal import Proximal

BUILTIN = (Proximal, ControlVariates, Dynamic, Contrastive)

__all__ = [
    "BUILTIN",
    "Contrastive",
    "ControlVariates",
    "Dynamic",
    "Finished",
    "Local",
    "Proximal",
    "Regulariser",
]
