"""Local objectives: what a client minimises. One method, one file, one name in `BUILTIN`."""

from clients.objectives.bag import Bag, Instance, InterpolatedBag
from clients.objectives.bagged import BagObjective
from clients.objectives.base import Context, Objective
from clients.objectives.count_likelihood import CountLikelihood
from clients.objectives.cross_entropy import CrossEntropy
from clients.objectives.dsq import Dsq
from clients.objectives.easy_llp import EasyLlp
from clients.objectives.forward_corrected import ForwardCorrected
from clients.objectives.llp_vat import LlpVat
from clients.objectives.margin import Margin
from clients.objectives.optimal_transport import OptimalTransport
from clients.objectives.sigma_damp import SigmaDamp
from clients.objectives.spectral_decoupling import SpectralDecoupling
from clients.objectives.squared_error import SquaredError
from clients.objectives.upm import Upm

BUILTIN = (
    CrossEntropy,
    Margin,
    SpectralDecoupling,
    SigmaDamp,
    ForwardCorrected,
    Bag,
    Instance,
    InterpolatedBag,
    EasyLlp,
    Upm,
    Dsq,
    OptimalTransport,
    CountLikelihood,
    LlpVat,
    SquaredError,
)

__all__ = [
    "BUILTIN",
    "Bag",
    "BagObjective",
    "Context",
    "CountLikelihood",
    "CrossEntropy",
    "Dsq",
    "EasyLlp",
    "ForwardCorrected",
    "Instance",
    "InterpolatedBag",
    "LlpVat",
    "Margin",
    "Objective",
    "OptimalTransport",
    "SigmaDamp",
    "SpectralDecoupling",
    "SquaredError",
    "Upm",
]
