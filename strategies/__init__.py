"""Aggregation strategies: how the updates of the sites become one update of the global model.

A strategy is a frozen value with its settings and a pure rule: `BUILTIN` are ours, and
docs/strategies.md says what to expect of each. `WithServerOptimizer` puts one of
`SERVER_OPTIMIZERS` behind any of them.

>>> import torch
>>> strategy = WithServerOptimizer(strategy=WeightedMean(), optimizer=ServerSgd(momentum=0.5))
>>> state = strategy.init({"bias": torch.zeros(2)}, num_sites=2)
>>> examples = torch.tensor([300.0, 100.0])
>>> updates = {"bias": torch.tensor([[2.0, 0.0], [-2.0, 4.0]])}
>>> for _ in range(2):
...     update, state = strategy.aggregate(updates, examples, state)
>>> update["bias"]
tensor([1.5000, 1.5000])

To add one, subclass `Strategy` in a file of its own; `tests/strategies/test_contract.py` says what
every strategy promises. The package stands alone: it knows of no simulator, file or network.
"""

from strategies.base import FromMean, Mean, Strategy
from strategies.cagrad import CAGrad
from strategies.coordinate_median import CoordinateMedian
from strategies.coordinate_wise import CoordinateWise
from strategies.fed_dyn import FedDyn
from strategies.fed_exp import FedExP
from strategies.fed_nova import FedNova
from strategies.fed_opt import FedAdagrad, FedAdam, FedYogi
from strategies.geometric_median import GeometricMedian
from strategies.gradient_harmonization import GradientHarmonization
from strategies.gram_rule import GramRule
from strategies.krum import Krum
from strategies.mgda import Mgda
from strategies.principal_gradient import PrincipalGradient
from strategies.q_fed_avg import QFedAvg
from strategies.scaffold import Scaffold
from strategies.server_optimizer import ServerOptimizer, WithServerOptimizer
from strategies.server_sgd import ServerSgd
from strategies.trimmed_mean import TrimmedMean
from strategies.weighted_mean import WeightedMean

BUILTIN = (
    WeightedMean,
    FedNova,
    Scaffold,
    FedDyn,
    FedExP,
    QFedAvg,
    PrincipalGradient,
    GradientHarmonization,
    CAGrad,
    Mgda,
    GeometricMedian,
    Krum,
    CoordinateMedian,
    TrimmedMean,
)
SERVER_OPTIMIZERS = (ServerSgd, FedAdagrad, FedAdam, FedYogi)

__all__ = [
    "BUILTIN",
    "SERVER_OPTIMIZERS",
    "CAGrad",
    "CoordinateMedian",
    "CoordinateWise",
    "FedAdagrad",
    "FedAdam",
    "FedDyn",
    "FedExP",
    "FedNova",
    "FedYogi",
    "FromMean",
    "GeometricMedian",
    "GradientHarmonization",
    "GramRule",
    "Krum",
    "Mean",
    "Mgda",
    "PrincipalGradient",
    "QFedAvg",
    "Scaffold",
    "ServerOptimizer",
    "ServerSgd",
    "Strategy",
    "TrimmedMean",
    "WeightedMean",
    "WithServerOptimizer",
]
