"""Local objectives: what a client minimises. One method, one file, one name in `BUILTIN`."""

from clients.objectives.base import Context, Objective
from clients.objectives.cross_entropy import CrossEntropy
from clients.objectives.margin import Margin
from clients.objectives.sigma_damp import SigmaDamp
from clients.objectives.spectral_decoupling import SpectralDecoupling
from clients.objectives.squared_error import SquaredError

BUILTIN = (CrossEntropy, Margin, SpectralDecoupling, SigmaDamp, SquaredError)

__all__ = [
    "BUILTIN",
    "Context",
    "CrossEntropy",
    "Margin",
    "Objective",
    "SigmaDamp",
    "SpectralDecoupling",
    "SquaredError",
]
