"""Ways to a model for each site. One method, one file, one name in `BUILTIN`."""

from clients.personalisation.base import Personalisation
from clients.personalisation.ditto import Ditto
from clients.personalisation.fine_tuning import FineTuning
from clients.personalisation.private_parameters import PrivateParameters

BUILTIN = (PrivateParameters, Ditto, FineTuning)

__all__ = ["BUILTIN", "Ditto", "FineTuning", "Personalisation", "PrivateParameters"]
