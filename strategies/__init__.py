"""Aggregation strategies: how the updates of the sites become one update of the global model.

A strategy is a frozen value with its settings and a pure rule. Built-in are `WeightedMean`
(FedAvg), `PrincipalGradient` (FedLD) and `FedNova`; `WithServerOptimizer` puts an optimizer behind
any of them.

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

from strategies.base import Mean, Strategy
from strategies.fed_nova import FedNova
from strategies.principal_gradient import PrincipalGradient
from strategies.server_optimizer import ServerSgd, WithServerOptimizer
from strategies.weighted_mean import WeightedMean

BUILTIN = (WeightedMean, PrincipalGradient, FedNova)

__all__ = [
    "BUILTIN",
    "FedNova",
    "Mean",
    "PrincipalGradient",
    "ServerSgd",
    "Strategy",
    "WeightedMean",
    "WithServerOptimizer",
]
